// The REST interface, as whoever is logged in may use it. All paths are relative to the page.

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let session = null;
let onEnd = () => {};

export function current() {
  return session;
}

/** Whether whoever is logged in may change things. */
export function mayControl() {
  return session.admin || session.scopes.includes("control");
}

/** Have `callback` called when the session turns out to have ended. */
export function whenEnded(callback) {
  onEnd = callback;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The service does not answer.");
  }
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Refused(answer.status, `An answer that cannot be read (${answer.status}).`);
  }
  if (!answer.ok) throw new Refused(answer.status, body.error || `Refused (${answer.status}).`);
  return body;
}

const JSON_HEADERS = { "Content-Type": "application/json" };

/** Who is logged in; null: nobody. */
export async function resume() {
  ({ session } = await ask("session"));
  return session;
}

export async function login(token) {
  ({ session } = await ask("session", { method: "POST", headers: JSON_HEADERS, body: JSON.stringify({ token }) }));
  return session;
}

export async function logout() {
  try {
    await ask("session", { method: "DELETE", headers: { "X-CSRF-Token": session.csrf } });
  } finally {
    session = null;
  }
}

/** Parameters of a query; those without a value are left out. */
export function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}

async function endpoint(method, path, body) {
  const options = { method, headers: {} };
  if (method !== "GET") options.headers["X-CSRF-Token"] = session ? session.csrf : "";
  if (body !== undefined) {
    Object.assign(options.headers, JSON_HEADERS);
    options.body = JSON.stringify(body);
  }
  try {
    return await ask(`api${path}`, options);
  } catch (problem) {
    // A token of another tenant is answered 401 as well; then the session goes on.
    if (problem.status === 401 && session && !(await resume())) onEnd();
    throw problem;
  }
}

export const get = (path) => endpoint("GET", path);
export const post = (path, body = {}) => endpoint("POST", path, body);
