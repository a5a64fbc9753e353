// What the service tells by itself: how it stands, and the steps of the last hour.

const KEPT = 360;
const COLUMNS = ["accepted", "sent", "deferred", "failed", "pending"];

let source = null;
let last = "";
const listeners = new Set();

/** `figures`: how it stands; `steps`: columns of the last hour; `connected`. */
export const now = { figures: null, steps: empty(), step: 10, connected: false };

function empty() {
  return Object.fromEntries(COLUMNS.map((name) => [name, []]));
}

/** Have `listener` called after each event; returns what ends that. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(what) {
  for (const listener of [...listeners]) listener(what);
}

export function start(onEnd) {
  stop();
  source = new EventSource(last ? `stream?after=${encodeURIComponent(last)}` : "stream");
  source.addEventListener("steps", (event) => {
    const data = JSON.parse(event.data);
    const sameNode = last && last.split("-")[0] === data.id.split("-")[0];
    const old = sameNode ? now.steps : empty();
    now.steps = Object.fromEntries(COLUMNS.map((name) => [name, [...old[name], ...data[name]].slice(-KEPT)]));
    now.step = data.step;
    last = data.id;
    tell("steps");
  });
  source.addEventListener("now", (event) => {
    now.figures = JSON.parse(event.data);
    now.connected = true;
    tell("now");
  });
  source.addEventListener("ended", () => {
    stop();
    onEnd();
  });
  source.addEventListener("error", () => {
    now.connected = false;
    tell("lost");
    // The browser comes back by itself unless it was refused; then we do.
    if (source && source.readyState === EventSource.CLOSED) setTimeout(() => source && start(onEnd), 5000);
  });
}

export function stop() {
  if (source) source.close();
  source = null;
  now.connected = false;
}

export function forget() {
  stop();
  last = "";
  now.figures = null;
  now.steps = empty();
}

/** Of all time at most so much is spent on updates: after a slow one the next comes later. */
const SHARE = 0.1;

/**
 * Call `update` now, whenever something happened in the service (at most every two seconds), and
 * every `seconds` anyway; returns what ends that. Errors are given to `failed`.
 */
export function follow(update, failed, seconds = 20) {
  let ended = false;
  let running = false;
  let again = false;
  let began = 0;
  let took = 0;
  let timer = null;
  let pulse = now.figures ? now.figures.pulse : null;

  async function run() {
    clearTimeout(timer);
    if (ended) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    began = performance.now();
    try {
      await update();
      if (!ended) failed(null);
    } catch (problem) {
      if (!ended) failed(problem);
    }
    running = false;
    took = performance.now() - began;
    if (!ended) timer = setTimeout(run, again ? wait() : Math.max(seconds * 1000, wait()));
  }

  function wait() {
    return Math.max(0, Math.max(2000, took / SHARE) - (performance.now() - began));
  }

  const unlisten = listen(() => {
    if (!now.figures || now.figures.pulse === pulse) return;
    pulse = now.figures.pulse;
    if (document.hidden) return;
    if (running) again = true;
    else {
      clearTimeout(timer);
      timer = setTimeout(run, wait());
    }
  });
  run();
  const end = () => {
    ended = true;
    clearTimeout(timer);
    unlisten();
  };
  end.refresh = run;
  return end;
}
