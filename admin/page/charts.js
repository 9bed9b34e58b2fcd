// Small charts of the last five minutes.

import {byID, el, setAttribute, setText, svg} from './dom.js';
import {clock, latency, none, number, rate} from './format.js';

const span = 300; // seconds
const width = span, height = 60; // of the drawing, which is stretched

// A second alone says little about a quiet proxy, so rates and latencies are
// those of the last few.
const few = 5;

const mean = (list) => list.reduce((sum, n) => sum + n, 0) / list.length;

function overFew(points, i, pick, sum) {
  const known = points.slice(Math.max(0, i - few + 1), i + 1).map(pick).filter((n) => n !== null);
  return known.length > 0 ? sum(known) : null;
}

const at = (pick) => (points, i) => pick(points[i]);
const average = (pick) => (points, i) => overFew(points, i, pick, mean);
const largest = (pick) => (points, i) => overFew(points, i, pick, (list) => Math.max(...list));

const plans = [
  {title: 'Sessions', format: number, least: 4, series: [
    {name: 'under way', value: at((p) => p.sessions)},
    {name: 'queued', value: at((p) => p.queued), style: 'second'},
  ]},
  {title: 'Calls per second', format: rate, least: 1, series: [
    {name: 'ended', value: average((p) => p.rates.sessions_per_second)},
    {name: 'failed', value: average((p) => p.rates.failures_per_second), style: 'bad'},
  ]},
  {title: 'Commands per second', format: rate, least: 1, series: [
    {name: 'by backends', value: average((p) => p.rates.commands_per_second)},
  ]},
  {title: 'Time to first command', format: latency, least: 0.001, series: [
    {name: 'median', value: average((p) => p.latencies.dispatch_p50)},
    {name: '99 %', value: largest((p) => p.latencies.dispatch_p99), style: 'second'},
  ]},
];

// ceiling is the next 1, 2 or 5 with zeros: a scale that rarely changes.
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= n * 1.05) ?? 20 * power;
}

class Chart {
  constructor(plan) {
    this.plan = plan;
    this.cursor = null; // where the pointer is, 0 to 1
    this.lines = plan.series.map((s) => svg('path', {class: `line ${s.style ?? ''}`, 'vector-effect': 'non-scaling-stroke'}));
    this.area = svg('path', {class: 'area'});
    this.mark = svg('path', {class: 'mark', 'vector-effect': 'non-scaling-stroke'});
    this.drawing = svg('svg', {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img'}, this.area, ...this.lines, this.mark);
    this.values = plan.series.map(() => el('dd'));
    this.top = el('span');
    this.when = el('span');
    const legend = plan.series.map((s, i) => el('div', {class: s.style ?? ''}, this.values[i], el('dt', {}, s.name)));
    this.node = el('figure', {},
      el('figcaption', {}, plan.title),
      el('dl', {}, ...legend),
      el('div', {class: 'plot'}, this.top, this.drawing),
      el('div', {class: 'axis', 'aria-hidden': 'true'}, el('span', {}, '5 min ago'), this.when));
    this.drawing.addEventListener('pointermove', (e) => this.point(e));
    this.drawing.addEventListener('pointerleave', () => this.point(null));
  }

  point(event) {
    const box = this.drawing.getBoundingClientRect();
    this.cursor = event && (event.clientX - box.left) / box.width;
    this.draw();
  }

  show(points) {
    this.points = points;
    this.all = this.plan.series.map((s) => points.map((_, i) => s.value(points, i)));
    this.draw();
  }

  draw() {
    if (!this.points?.length) return;
    const end = new Date(this.points.at(-1).time);
    const x = this.points.map((p) => width - (end - new Date(p.time)) / 1000);
    const known = this.all.flat().filter((n) => n !== null);
    const top = ceiling(Math.max(this.plan.least, ...known));
    const y = (n) => height - n / top * (height - 2) - 1;
    this.all.forEach((values, i) => setAttribute(this.lines[i], 'd', path(x, values, y)));
    setAttribute(this.area, 'd', `M${x[0]} ${height}${this.all[0].map((n, i) => `L${x[i]} ${y(n ?? 0)}`).join('')}V${height}Z`);
    setText(this.top, this.plan.format(top));

    let i = this.points.length - 1;
    if (this.cursor !== null) {
      i = x.reduce((best, _, j) => Math.abs(x[j] - this.cursor * width) < Math.abs(x[best] - this.cursor * width) ? j : best, i);
    }
    setAttribute(this.mark, 'd', this.cursor === null ? '' : `M${x[i]} 0V${height}`);
    setText(this.when, this.cursor === null ? 'now' : clock(this.points[i].time));
    this.all.forEach((values, s) => setText(this.values[s], values[i] === null ? none : this.plan.format(values[i])));
    setAttribute(this.drawing, 'aria-label', this.inWords());
  }

  inWords() {
    const told = this.plan.series.map((s, i) => {
      const known = this.all[i].filter((n) => n !== null);
      if (known.length === 0) return `${s.name}: nothing`;
      const [now, low, high] = [known.at(-1), Math.min(...known), Math.max(...known)].map(this.plan.format);
      return `${s.name}: ${now} now, between ${low} and ${high}`;
    });
    return `${this.plan.title} over the last five minutes. ${told.join('. ')}.`;
  }
}

// path draws a line with a gap where a value isn't known, and a dot where only
// one is.
function path(x, values, y) {
  let d = '';
  values.forEach((n, i) => {
    if (n === null) return;
    d += i > 0 && values[i - 1] !== null ? `L${x[i]} ${y(n)}` : `M${x[i]} ${y(n)}h0`;
  });
  return d;
}

const charts = plans.map((plan) => new Chart(plan));
byID('charts').append(...charts.map((c) => c.node));

let points = [];

export function showCharts(snapshot) {
  if (snapshot.whole) {
    points = snapshot.history;
  } else {
    points.push({
      time: snapshot.time, sessions: snapshot.status.sessions, queued: snapshot.status.queued,
      rates: snapshot.rates, latencies: snapshot.latencies,
    });
  }
  const newest = new Date(points.at(-1)?.time);
  points = points.filter((p) => newest - new Date(p.time) <= span * 1000);
  for (const c of charts) c.show(points);
}
