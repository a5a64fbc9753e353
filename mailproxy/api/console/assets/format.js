// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** Messages per second from messages per minute. */
export function rate(perMinute) {
  const value = perMinute / 60;
  return value >= 10 ? whole.format(Math.round(value)) : short.format(value);
}

export function share(value) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 0.001) return "< 0.1 %";
  return `${short.format(value * 100)} %`;
}

/** A length of time in its two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return seconds < 0.001 ? "0 s" : `${Math.round(seconds * 1000)} ms`;
  const all = Math.round(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  if (all < 86400) return `${Math.floor(all / 3600)} h ${Math.floor((all % 3600) / 60)} min`;
  return `${Math.floor(all / 86400)} d ${Math.floor((all % 86400) / 3600)} h`;
}

function date(value) {
  return typeof value === "number" ? new Date(value * 1000) : new Date(value);
}

function pad(number) {
  return String(number).padStart(2, "0");
}

/** Unix seconds or ISO 8601 as local time: the time alone if it is today's. */
export function time(value) {
  if (value === null || value === undefined) return "–";
  const at = date(value);
  if (Number.isNaN(at.getTime())) return "–";
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
}

/** The same, always with the date, and with the zone. */
export function instant(value) {
  return value === null || value === undefined ? "" : date(value).toString();
}

export function ago(value, now = Date.now()) {
  if (value === null || value === undefined) return "never";
  const seconds = (now - date(value).getTime()) / 1000;
  if (seconds < -1) return `in ${duration(-seconds)}`;
  if (seconds < 1) return "just now";
  return `${duration(seconds < 60 ? seconds : Math.floor(seconds / 60) * 60).replace(" 0 s", "")} ago`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
