"""What every store promises of large files that were put away."""

from __future__ import annotations

import attrs

from mailproxy.tenancy import LargeFile
from tests.contracts_base import StoreContract


class FilesContract(StoreContract):
    def large(self, pk: int, after: float = 60.0) -> LargeFile:
        url = f"file:///srv/{pk}"
        return LargeFile(pk, "default", url, "ü.pdf", 2**40, self.now + after)

    async def test_reads_as_it_was_kept(self) -> None:
        """A file reads as it was written down, also by the next process; others are not there."""
        file = self.large(2**62)
        await self.store.keep_file(file)
        await self.killed()
        self.assertEqual(file, await self.store.file(2**62))
        self.assertIsNone(await self.store.file(1))

    async def test_kept_again(self) -> None:
        """What is written down again takes the place of what was there."""
        await self.store.keep_file(self.large(1))
        later = attrs.evolve(self.large(1), expires_at=self.now + 90)
        await self.store.keep_file(later)
        self.assertEqual(later, await self.store.file(1))

    async def test_expired(self) -> None:
        """Files are found once their time is over, the oldest first, and then forgotten."""
        for pk, after in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 99.0)):
            await self.store.keep_file(self.large(pk, after))
        self.assertEqual([], await self.store.expired_files(self.now, 10))
        self.later(30.0)
        expired = await self.store.expired_files(self.now, 10)
        self.assertEqual([2, 3, 1], [file.pk for file in expired])
        self.assertEqual([2], [f.pk for f in await self.store.expired_files(self.now, 1)])
        await self.store.forget_files([2, 1, 77])
        self.assertEqual([3], [f.pk for f in await self.store.expired_files(self.now, 10)])
        self.assertIsNone(await self.store.file(1))
