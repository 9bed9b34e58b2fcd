// The last calls, and how they ended.

import {byID, el, setBadge, setText} from './dom.js';
import {clock, duration, none, number} from './format.js';

const most = 100;

// As agiproxy counts them; a call that its caller or an operator ended is neither.
const failures = new Set(['lost', 'no_backend', 'no_route', 'bad_header', 'rejected', 'timeout']);

function outcome(e) {
  const badge = el('span');
  const word = e.outcome.replaceAll('_', ' ');
  if (failures.has(e.outcome)) setBadge(badge, 'cross', word, 'bad');
  else if (e.outcome === 'completed') setBadge(badge, 'tick', word, 'good plain');
  else setBadge(badge, 'dash', word, 'quiet plain');
  return badge;
}

function row(e) {
  const cell = (label, text, kind = '') => el('td', {role: 'cell', class: kind, 'data-label': label}, text);
  const backend = e.backend ? `${e.pool}/${e.backend}` : e.pool || none;
  return el('tr', {role: 'row', class: failures.has(e.outcome) ? 'bad' : ''},
    cell('Ended', clock(e.time), 'ended'),
    cell('Outcome', outcome(e), 'outcome'),
    cell('Backend', e.attempts > 1 ? `${backend}, attempt ${e.attempts}` : backend, 'backend'),
    cell('Script', e.script || none, 'script'),
    cell('Caller', e.caller || none, 'caller'),
    cell('Commands', number(e.commands), 'commands number'),
    cell('Duration', duration(e.duration_seconds), 'duration number'),
    cell('Reason', e.reason || '', 'reason'));
}

const body = document.querySelector('#endings tbody');
const hold = byID('hold');
let known = []; // newest first
let held = []; // those that came while the reader wants to read

export function showEndings(snapshot) {
  if (snapshot.whole) {
    known = [];
    held = [];
    body.replaceChildren();
  }
  held = [...snapshot.endings, ...held].slice(0, most);
  if (!hold.checked || snapshot.whole) release();
  else setText(byID('held'), held.length > 0 ? `(${held.length} new)` : '');
}

function release() {
  body.prepend(...held.map(row));
  while (body.childElementCount > most) body.lastElementChild.remove();
  known = [...held, ...known].slice(0, most);
  held = [];
  setText(byID('held'), '');
  byID('no-endings').hidden = known.length > 0;
  const failed = known.filter((e) => failures.has(e.outcome)).length;
  setText(byID('endings-count'), known.length > 0 ? `${known.length} latest · ${failed} failed` : '');
}

hold.addEventListener('change', () => { if (!hold.checked) release(); });
byID('failures-only').addEventListener('change', (e) => body.classList.toggle('failures-only', e.target.checked));
