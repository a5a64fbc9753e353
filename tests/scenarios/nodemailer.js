// Hands in what the JSON object on the standard input says, with nodemailer; prints what was answered.
"use strict";
const nodemailer = require("nodemailer");
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const transport = nodemailer.createTransport(given.transport);
(async () => {
  for (const mail of given.mails) {
    const info = await transport.sendMail(mail);
    console.log(JSON.stringify({ response: info.response, accepted: info.accepted, id: info.messageId }));
  }
  transport.close();
})().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
