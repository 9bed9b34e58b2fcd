// The status page: listens to agiproxy's snapshots, one a second, and shows them.

import {byID, say, setBadge, setClass, setText} from './dom.js';
import {age, clock, plural, since} from './format.js';
import {showCharts} from './charts.js';
import {showEndings} from './endings.js';
import {changes, showPools} from './pools.js';

const patience = 5000; // without a snapshot, until the connection counts as lost
const pause = 2000; // between attempts to connect, ms

let source; // of snapshots
let last; // the snapshot before
let heard; // when it came
let silence, retry; // timers

function connect() {
  source = new EventSource('api/v1/events');
  source.onmessage = (event) => {
    clearTimeout(silence);
    silence = setTimeout(lose, patience);
    show(JSON.parse(event.data));
  };
  // The browser's own reconnecting gives up when it is refused, so it is done here.
  source.onerror = lose;
  clearTimeout(silence);
  silence = setTimeout(lose, patience);
}

function lose() {
  clearTimeout(silence);
  source.close();
  document.body.classList.add('stale');
  setBadge(byID('connection'), 'cross', 'not connected', 'bad');
  tellLost();
  clearTimeout(retry);
  retry = setTimeout(connect, pause);
}

// tellLost says it once, not with each attempt: it is read aloud.
function tellLost() {
  const text = heard
    ? `The connection to agiproxy is lost. What you see is as of ${clock(heard)}. Trying again.`
    : 'agiproxy does not answer. Trying again.';
  say(byID('lost'), text);
}

function show(snapshot) {
  heard = Date.now();
  if (last && last.status.revision !== snapshot.status.revision) {
    location.reload(); // this page is another version's
    return;
  }
  document.body.classList.remove('stale');
  say(byID('lost'), '');
  setBadge(byID('connection'), 'dot', 'live', 'good plain');
  showProcess(snapshot);
  showCharts(snapshot);
  showPools(snapshot);
  showEndings(snapshot);
  if (last) announce(changes(last.pools, snapshot.pools));
  last = snapshot;
}

function showProcess({status, pools, time}) {
  setText(byID('version'), status.version);
  if (status.draining) setBadge(byID('ready'), 'ring', 'draining', 'warn');
  else if (status.ready) setBadge(byID('ready'), 'dot', 'ready', 'good');
  else setBadge(byID('ready'), 'cross', 'not ready', 'bad');
  const read = status.config_file ? `${status.config_file}, read ${age(since(status.last_reload.time, time))} ago` : 'no configuration file';
  setText(byID('process'), `up ${age(status.uptime_seconds)} · ${plural(status.loops, 'loop')}, ${status.engine} · ${read}`);
  setClass(byID('not-ready'), `banner ${status.draining ? 'warn' : 'bad'}`);
  say(byID('not-ready'), notReady(status));
  say(byID('reload'), status.last_reload.ok ? '' : `The last reload failed, and changed nothing: ${status.last_reload.error}`);
  const gone = pools.flatMap((p) => p.backends).filter((b) => b.state === 'down' || b.state === 'ejected').length;
  setText(document.querySelector('title'), gone > 0 ? `${gone} down · agiproxy` : 'agiproxy');
}

function notReady(status) {
  if (status.ready) return '';
  if (!status.draining) return `Not ready: ${status.not_ready_reason}.`;
  return `agiproxy ends when its calls have; ${plural(status.sessions, 'session')} left.`;
}

// announce has a screen reader say what has changed, when it has time.
function announce(told) {
  if (told.length > 0) setText(byID('changes'), told.join(' '));
}

connect();
