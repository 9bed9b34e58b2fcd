// Numbers and times as people read them.

export const none = '–';

const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0});

export function number(n) {
  return whole.format(n).replaceAll(',', '\u202f');
}

export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? '' : 's'}`;

// rate has a digit behind the point while that tells something.
export function rate(n) {
  return n > 0 && n < 10 ? n.toFixed(1) : number(n);
}

// latency is in seconds, and mostly below one.
export function latency(s) {
  if (s === null || s === undefined) return none;
  const ms = s * 1000;
  if (ms < 1) return `${number(ms * 1000)} µs`;
  if (ms < 10) return `${trim(ms)} ms`;
  if (ms < 1000) return `${number(ms)} ms`;
  return `${trim(s)} s`;
}

const trim = (n) => n.toFixed(1).replace(/\.0$/, '');

// duration is in seconds, told by its two largest units.
export function duration(s) {
  if (s === null || s === undefined) return none;
  if (s < 10) return `${Math.max(s, 0).toFixed(1)} s`;
  s = Math.round(s);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

// age is a duration that is read again each second: its tenths would flicker.
export function age(s) {
  return s < 10 ? `${Math.floor(Math.max(s, 0))} s` : duration(s);
}

const two = (n) => String(n).padStart(2, '0');

// clock is the time of day where the reader is.
export function clock(time) {
  const t = new Date(time);
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

// since is the time from then to now, in seconds, by agiproxy's own clock.
export function since(then, now) {
  return (new Date(now) - new Date(then)) / 1000;
}
