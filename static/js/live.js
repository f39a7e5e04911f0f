/* Follows a board: every event once, in order, through lost connections.
 *
 *   const live = connect({board, after, onEvents, onState, onResync, onPresence})
 *   live.hold() … live.release()   hands nothing over in between: a drag
 *   live.looking(card)             which card this page has open, null for none
 *
 * onEvents(events)   at most once a frame; the next batch waits for a promise it returns, and one
 *                    that fails is handed over again
 * onState({state, since})   connecting, live, catching-up, polling, offline, signed-out, gone
 * onResync(seq)   too much was missed: load anew what is shown, it goes on from there
 * onPresence({viewers, me})   who looks at the board, at first and whenever that changes; with it,
 *                             the others are told of this page
 */
const FIRST = 250, SLOWEST = 10_000, POLL = 5_000, PROBE = 20_000, MOST = 5_000;
const REST = 1_000, TRIES = 5;
// Between two batches: at least this, and as long as the last one took until it was painted, so
// that a busy board leaves the page, and the server, half of their time.
const PACE = 150, LONGEST_PACE = 4_000, FEW = 4;

/* After the next frame; a hidden page has none. */
const painted = () => new Promise(done => {
  if (document.hidden) done();
  else requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, REST);
});

export function connect({board, after, onEvents, onState, onResync, onPresence}) {
  const present = onPresence ? "&presence=1" : "";
  let shown = null;
  const name = encodeURIComponent(board), listening = new AbortController();
  let cursor = Number(after), pending = [], lost = false, holds = 0, busy = false, frame = 0;
  let socket, state, delay = FIRST, failures = 0, opened, heard, done = false;
  let again, settling, polling, fetching = false, stumbles = 0;

  function become(next) {
    if (next !== state && !done) onState?.({state: state = next, since: new Date()});
  }

  function take(event) {
    if (Array.isArray(event)) return event.forEach(take);
    if (event.type === "resync") [cursor, pending, lost] = [event.last_seq, [], true];
    else if (event.seq > cursor + 1) return restart();
    else if (event.seq === cursor + 1) {
      pending.push(event);
      cursor = event.seq;
    }
    if (pending.length > MOST) [pending, lost] = [[], true];
    soon();
  }

  function soon() {
    // A hidden page gets no frames.
    frame ||= document.hidden ? setTimeout(flush, 1000) : requestAnimationFrame(flush);
  }

  async function flush() {
    frame = 0;
    if (holds || busy || done || !(lost || pending.length)) return;
    const [events, afresh] = [pending, lost];
    [busy, pending, lost] = [true, [], false];
    const began = performance.now();
    try {
      if (afresh) await onResync?.(cursor);
      if (events.length) await onEvents(events);
      await painted();
      stumbles = 0;
    } catch (error) {
      // Most likely the server is away: the same events again, and only then a page anew.
      console.error(error);
      if (afresh || (state === "live" && ++stumbles >= TRIES)) lost = true;
      else pending = [...events, ...pending];
      await new Promise(rest => setTimeout(rest, REST));
    }
    const took = performance.now() - began;
    // A single change now and then is not made to wait for the whole of it.
    const pace = events.length > FEW ? PACE : PACE - took;
    await new Promise(rest => setTimeout(rest, Math.min(Math.max(pace, took), LONGEST_PACE)));
    busy = false;
    soon();
  }

  function open() {
    clearTimeout(again);
    if (done) return;
    const ws = new WebSocket(`${location.origin.replace("http", "ws")}/ws/boards/${name}?after=${cursor}&many=1${present}`);
    socket = ws;
    const late = setTimeout(() => ws.close(), SLOWEST);
    ws.onopen = () => {
      clearTimeout(late);
      clearInterval(polling);
      polling = 0;
      opened = heard = Date.now();
      if (state !== "connecting") become("catching-up");
      tell();
      settle();
    };
    ws.onmessage = ({data}) => {
      if (ws !== socket) return;
      heard = Date.now();
      const told = JSON.parse(data);
      if (told.type === "presence") onPresence?.(told);
      else take(told);
      if (state !== "live" && heard - opened < 3000) settle();
    };
    ws.onclose = ({code}) => {
      clearTimeout(late);
      if (ws === socket) fail(code);
    };
  }

  function tell() {
    if (present && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({looking: shown}));
  }

  function settle() {
    clearTimeout(settling);
    settling = setTimeout(() => {
      [delay, failures] = [FIRST, 0];
      become("live");
    }, 300);
  }

  function fail(code) {
    clearTimeout(settling);
    socket = null;
    if (code === 4401) return end("signed-out");
    if (code === 4404) return end("gone");
    if (state !== "polling") become("offline");
    if (++failures > 1 && !polling) {
      polling = setInterval(poll, POLL);
      poll();
    }
    again = setTimeout(open, delay * (0.5 + Math.random() / 2));
    delay = Math.min(2 * delay, SLOWEST);
  }

  function restart() {
    const old = socket;
    socket = null;
    old?.close();
    if (old) fail();
  }

  function hurry() {
    if (done || document.hidden) return;
    if (socket) return probe();
    delay = FIRST;
    open();
  }

  async function page(limit) {
    const answer = await fetch(`/api/v1/events?board=${name}&after=${cursor}&limit=${limit}`, {cache: "no-store"});
    if (answer.status === 401) end("signed-out");
    if (answer.status === 404) end("gone");
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  async function poll() {
    if (fetching) return;
    fetching = true;
    try {
      for (let more = true; more && !done && !socket?.readyState;) {
        const {results, next, last_seq} = await page(200);
        if (last_seq < cursor || last_seq > cursor + MOST) take({type: "resync", last_seq});
        else results.forEach(take);
        more = next;
        if (!socket?.readyState) become("polling");
      }
    } catch {
      become("offline");
    }
    fetching = false;
  }

  // A connection can die without a word: ask when it has been silent for long.
  async function probe() {
    const asked = socket, {last_seq} = await page(1).catch(() => ({last_seq: Infinity}));
    setTimeout(() => socket === asked && cursor < last_seq && restart(), 2000);
  }

  function end(why) {
    become(why);
    done = true;
    [again, settling].forEach(clearTimeout);
    [polling, probing].forEach(clearInterval);
    listening.abort();
    socket?.close();
  }

  const probing = setInterval(() => {
    if (state === "live" && !document.hidden && Date.now() - heard > PROBE) probe();
  }, PROBE);
  const {signal} = listening;
  addEventListener("online", hurry, {signal});
  addEventListener("offline", restart, {signal});
  document.addEventListener("visibilitychange", hurry, {signal});
  become("connecting");
  open();

  return {
    get cursor() { return cursor; },
    hold() { holds++; },
    release() { if (!--holds) soon(); },
    looking(card) {
      if (card === shown) return;
      shown = card;
      tell();
    },
    retry() { hurry(); },
    close() { end("closed"); },
  };
}
