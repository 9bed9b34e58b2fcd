// The pools, a table of backends each.

import {arrange, byID, el, setAttribute, setBadge, setClass, setText} from './dom.js';
import {age, clock, latency, none, number, plural, since} from './format.js';
import {ask} from './operate.js';

// States are told by a word, a sign and a colour.
const states = {
  up: {sign: 'dot', tone: 'good'},
  busy: {sign: 'half', tone: 'warn'},
  down: {sign: 'cross', tone: 'bad'},
  ejected: {sign: 'triangle', tone: 'bad'},
  drained: {sign: 'ring', tone: 'quiet'},
};

const columns = [
  {key: 'name', title: 'Backend'},
  {key: 'state', title: 'State'},
  {key: 'sessions', title: 'Sessions', number: true},
  {key: 'oldest', title: 'Oldest', number: true},
  {key: 'weight', title: 'Weight', number: true},
  {key: 'first', title: 'First command', number: true},
  {key: 'probe', title: 'Health check', number: true},
  {key: 'total', title: 'Total', number: true},
  {key: 'action', title: 'Action', unseen: true},
];

// A table on a phone is shown as cards, which makes some browsers forget that it
// is one; the roles remind them.
class Row {
  constructor() {
    this.main = {};
    this.more = {};
    this.badge = el('span');
    this.button = el('button', {type: 'button'});
    this.button.addEventListener('click', () => ask(this.backend, this.pool));
    const cells = columns.map((c) => {
      const tag = c.key === 'name' ? 'th' : 'td';
      const role = c.key === 'name' ? 'rowheader' : 'cell';
      if (c.key === 'action') return el('td', {role, class: 'action'}, this.button);
      this.main[c.key] = el('span', {class: 'main'});
      this.more[c.key] = el('span', {class: 'more'});
      const cell = el(tag, {role, class: c.number ? `${c.key} number` : c.key, 'data-label': c.title}, this.main[c.key], this.more[c.key]);
      if (tag === 'th') cell.setAttribute('scope', 'row');
      return cell;
    });
    cells[1].prepend(this.badge, ' ');
    this.bar = el('span', {class: 'bar', 'aria-hidden': 'true'});
    this.more.sessions.before(this.bar);
    this.node = el('tr', {role: 'row'}, ...cells);
  }

  set(key, main, more = '') {
    setText(this.main[key], main);
    setText(this.more[key], more);
  }

  show(b, pool, now) {
    this.backend = b;
    this.pool = pool;
    const {sign, tone} = states[b.state];
    setBadge(this.badge, sign, b.state, tone);
    setClass(this.node, tone);
    this.set('name', b.name, where(b));
    this.set('state', `for ${age(since(b.since, now))}`, why(b, now));
    this.set('sessions', number(b.sessions), b.max_sessions > 0 ? `of ${number(b.max_sessions)}` : '');
    this.bar.hidden = b.max_sessions === 0;
    if (b.max_sessions > 0) this.bar.style.setProperty('--share', Math.min(1, b.sessions / b.max_sessions));
    this.set('oldest', b.oldest_session_seconds === null ? none : age(b.oldest_session_seconds));
    this.set('weight', number(b.weight), b.overridden.includes('weight') ? 'changed' : '');
    this.set('first', latency(b.first_command_seconds?.p50), b.first_command_seconds ? `99 % ${latency(b.first_command_seconds.p99)}` : '');
    this.set('probe', ...probe(b.last_probe, now));
    this.set('total', number(b.total), b.ejections > 0 ? `ejected ${number(b.ejections)}×` : '');
    const verb = b.draining ? 'Enable' : 'Drain';
    setText(this.button, verb);
    setAttribute(this.button, 'aria-label', `${verb} ${b.name} of pool ${b.pool}`);
    this.button.hidden = b.removed;
  }
}

function where(b) {
  const parts = [];
  if (b.address !== b.name) parts.push(b.address);
  if (b.resolved && b.resolved !== b.address) parts.push(b.resolved);
  if (b.backup) parts.push('backup');
  return parts.join(' · ');
}

function why(b, now) {
  const parts = [];
  if (b.reason) parts.push(b.reason);
  if (b.state === 'ejected' && b.ejected_until) parts.push(`until ${clock(b.ejected_until)}`);
  if (b.draining?.deadline) {
    const left = since(now, b.draining.deadline);
    parts.push(left > 0 ? `gives up in ${age(left)}` : 'gave up what was left');
  }
  return parts.join(' · ');
}

function probe(p, now) {
  if (!p) return [none];
  const ago = `${age(since(p.time, now))} ago`;
  return p.ok ? [latency(p.duration_seconds), ago] : [p.reason, ago];
}

class PoolView {
  constructor(name, id) {
    this.rows = new Map();
    this.facts = el('p');
    this.badge = el('p');
    this.body = el('tbody', {role: 'rowgroup'});
    const head = columns.map((c) => el('th', {scope: 'col', role: 'columnheader', class: c.number ? `${c.key} number` : c.key},
      el('span', c.unseen ? {class: 'unseen'} : {}, c.title)));
    this.node = el('section', {class: 'pool', 'aria-labelledby': id},
      el('div', {class: 'title'}, el('h2', {id}, name), this.badge, this.facts),
      el('table', {role: 'table', 'aria-labelledby': id},
        el('thead', {role: 'rowgroup'}, el('tr', {role: 'row'}, ...head)), this.body));
  }

  show(pool, now) {
    if (pool.can_serve) setBadge(this.badge, 'dot', 'can serve', 'good');
    else setBadge(this.badge, 'cross', 'cannot serve', 'bad');
    setText(this.facts, `${plural(pool.sessions, 'session')} · ${number(pool.queued)} queued · ${pool.balance}`);
    const before = this.rows;
    this.rows = new Map();
    for (const b of pool.backends) {
      // One that a reload has removed may have the name of one that came after.
      const key = `${b.removed} ${b.name}\n${b.removed ? b.address : ''}`;
      const row = before.get(key) ?? new Row();
      row.show(b, pool, now);
      this.rows.set(key, row);
    }
    arrange(this.body, [...this.rows.values()].map((r) => r.node));
  }
}

let views = new Map();
let made = 0;

export function showPools(snapshot) {
  const before = views;
  views = new Map();
  for (const pool of snapshot.pools) {
    const view = before.get(pool.name) ?? new PoolView(pool.name, `pool-${++made}`);
    view.show(pool, snapshot.time);
    views.set(pool.name, view);
  }
  arrange(byID('pools'), [...views.values()].map((v) => v.node));
}

// changes tells which backends are in another state than before, in words.
export function changes(before, after) {
  const was = new Map(before.flatMap((p) => p.backends).map((b) => [`${b.pool}/${b.name}`, b]));
  return after.flatMap((p) => p.backends)
    .filter((b) => was.has(`${b.pool}/${b.name}`) && was.get(`${b.pool}/${b.name}`).state !== b.state)
    .map((b) => `${b.name} of pool ${b.pool} is ${b.state}${b.reason ? `: ${b.reason}` : ''}.`);
}
