// Live values for an open page. It listens on `document`:
//   live:update  detail is what ingest has just done (docs/decisions/0012-live.md)
//   live:state   detail is "connected" (nothing is missed from now on), "waiting", or "signed-out"

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;
const HIDDEN_LIMIT = 5 * 60_000;
const SIGNED_OUT = 4401;

let socket = null;
let wait = FIRST_WAIT;
let retry = 0;
let hiding = 0;
let paused = false;

function tell(name, detail) {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}

function connect() {
  const url = new URL("/ws/live/", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(url);
  socket.addEventListener("message", heard);
  socket.addEventListener("close", closed);
}

function heard(event) {
  const message = JSON.parse(event.data);
  if (message.type === "ready") {
    wait = FIRST_WAIT;
    tell("live:state", "connected");
  } else if (message.type === "update") {
    tell("live:update", message);
  }
}

function closed(event) {
  socket = null;
  tell("live:state", event.code === SIGNED_OUT ? "signed-out" : "waiting");
  if (event.code === SIGNED_OUT || paused) return;
  retry = setTimeout(connect, wait * (0.5 + Math.random() / 2));
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

function pause() {
  paused = true;
  clearTimeout(retry);
  socket?.close();
}

function resume() {
  paused = false;
  wait = FIRST_WAIT;
  if (!socket) connect();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(pause, HIDDEN_LIMIT);
  else if (paused) resume();
});

tell("live:state", "waiting");
connect();
