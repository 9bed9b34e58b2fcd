// Drain and enable, after a question.

import {byID, say, setText} from './dom.js';
import {plural} from './format.js';

const dialog = byID('confirm');
const deadline = byID('deadline');
const go = byID('do');
let asked; // the backend that the question is about

export function ask(backend, pool) {
  asked = backend;
  const verb = backend.draining ? 'Enable' : 'Drain';
  setText(byID('confirm-title'), `${verb} ${backend.name} of pool ${backend.pool}?`);
  setText(byID('confirm-what'), backend.draining
    ? 'It gets new calls again.'
    : `It gets no new calls. ${underWay(backend.sessions)} This holds until it is enabled, agiproxy restarts, or a reload changes its entry.`);
  say(byID('confirm-warning'), backend.draining || othersServe(backend, pool)
    ? '' : `No other backend of pool ${backend.pool} can serve: its new calls will wait or fail.`);
  byID('confirm-deadline').hidden = Boolean(backend.draining);
  deadline.value = '';
  say(byID('confirm-error'), '');
  setText(go, verb);
  go.disabled = false;
  dialog.showModal();
  byID('cancel').focus();
}

function underWay(n) {
  if (n === 0) return 'None is under way.';
  return n === 1 ? 'The one under way goes on.' : `The ${plural(n, 'session')} under way go on.`;
}

function othersServe(backend, pool) {
  return pool.backends.some((b) => b.name !== backend.name && !b.removed && (b.state === 'up' || b.state === 'busy'));
}

// request does what was asked, and returns what was wrong with that.
async function request() {
  const path = `api/v1/backends/${encodeURIComponent(asked.pool)}/${encodeURIComponent(asked.name)}/`;
  const body = !asked.draining && deadline.value ? JSON.stringify({deadline_seconds: 60 * Number(deadline.value)}) : undefined;
  try {
    const answer = await fetch(path + (asked.draining ? 'enable' : 'drain'), {method: 'POST', body});
    return answer.ok ? '' : (await answer.json()).detail;
  } catch {
    return 'agiproxy cannot be reached.';
  }
}

dialog.querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault(); // it stays open until it's done
  go.disabled = true;
  const wrong = await request();
  go.disabled = false;
  if (wrong) say(byID('confirm-error'), wrong);
  else dialog.close();
});
byID('cancel').addEventListener('click', () => dialog.close());
