/*
 * `node cron.mjs [pairs]` (after a build): nextRun beside croner, over random expressions, zones and times.
 *
 * The same rules, but for daylight saving: a time that the clock jumps over is as much later here (as in RFC 5545 and java.time), there at the
 * jump, or left out where the minute is a list; a time that exists twice fires once here unless the hour is `*`, there also by the
 * shape of the minutes. Such differences are counted, and any other ends with status 1.
 */
import { Cron } from 'croner'
import { nextRun } from '../dist/jobs.js'

const PAIRS = Number(process.argv[2] ?? 10_000)
const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Africa/Casablanca', 'Africa/Cairo', 'America/St_Johns', 'Pacific/Apia', 'America/Santiago', 'Asia/Beirut', 'Pacific/Chatham', 'America/Havana', 'Europe/Dublin']
const FROM = Date.UTC(2010, 0)
const TO = Date.UTC(2035, 0)

// A seed, so that a difference can be found again.
let seed = Number(process.env.SEED ?? 7)
function random(n) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * n)
}
const pick = (list) => list[random(list.length)]
const MONTHS = 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ')
const WEEKDAYS = 'sun mon tue wed thu fri sat'.split(' ')

function field(from, to, names) {
  const one = () => {
    const number = from + random(to - from + 1)
    return names && random(3) === 0 ? names[(number - from) % names.length] : String(number)
  }
  const part = () => {
    const [a, b] = [from + random(to - from + 1), from + random(to - from + 1)].sort((x, y) => x - y)
    return pick([one, one, () => `${a}-${b}`, () => `${a}-${b}/${1 + random(5)}`, () => `*/${1 + random(to - from)}`])()
  }
  return random(10) < 4 ? '*' : random(5) === 0 ? `${part()},${part()}` : part()
}

/** Instants around the changes of the clock in a zone; the others would seldom meet one. */
const changes = new Map()
function changesOf(tz) {
  if (!changes.has(tz)) {
    const format = new Intl.DateTimeFormat('en-US', { timeZone: tz, timeZoneName: 'longOffset' })
    const offset = (at) => format.format(at).split(' ').pop()
    const found = []
    for (let at = FROM; at < TO; at += 86_400_000) if (offset(at) !== offset(at + 86_400_000)) found.push(at)
    changes.set(tz, found)
  }
  return changes.get(tz)
}

function reference(expr, tz, after) {
  const [, , day, , weekday] = expr.split(' ')
  // crontab(5): a field that begins with * restricts nothing.
  const domAndDow = day.startsWith('*') || weekday.startsWith('*')
  try {
    return new Cron(expr, { timezone: tz, paused: true, mode: '5-part', domAndDow }).nextRun(new Date(after))?.getTime()
  } catch (error) {
    return `refused: ${error.message}`
  }
}

function ours(expr, tz, after) {
  try {
    return nextRun({ kind: 'cron', expr, tz }, after)
  } catch (error) {
    return `refused: ${error.message}`
  }
}

const counts = { same: 0, 'never due: refused here, no answer there': 0, 'at a jump forwards': 0, 'at a jump back': 0, unexplained: 0 }
let nearChange = 0
let [spent, theirs] = [0, 0]
const isRefusal = (answer) => typeof answer === 'string'

const DAY_MS = 86_400_000
const localDay = (at, tz) => new Date(at).toLocaleString('sv', { timeZone: tz, timeZoneName: 'longOffset' })
const minutesOf = (offset) => (/([+−-])(\d\d):(\d\d)$/.exec(offset) ?? []).reduce((sum, text, i) => (i === 2 ? Number(text) * 60 : i === 3 ? sum + Number(text) : 0), 0) * (/[−-]\d\d:\d\d$/.test(offset) ? -1 : 1)

function explain(tz, a, b) {
  if (isRefusal(a) && b === undefined && a.includes('never due')) return 'never due: refused here, no answer there'
  const first = Math.min(a, b)
  const change = changesOf(tz).find((at) => first >= at - DAY_MS && first <= at + 2 * DAY_MS)
  if (change === undefined) return 'unexplained'
  return minutesOf(localDay(change + DAY_MS, tz)) > minutesOf(localDay(change, tz)) ? 'at a jump forwards' : 'at a jump back'
}

for (let pair = 0; pair < PAIRS; pair++) {
  // Where the clock changes, mostly: every other one in these hours.
  const expr = [field(0, 59), random(2) === 0 ? field(0, 3) : field(0, 23), field(1, 31), field(1, 12, MONTHS), field(0, 7, WEEKDAYS)].join(' ')
  const tz = pick(ZONES)
  const near = changesOf(tz)
  const isNear = near.length > 0 && random(2) === 0
  const after = isNear ? pick(near) - 7_200_000 + random(1_500) * 60_000 : FROM + random((TO - FROM) / 1000) * 1000
  if (isNear) nearChange++
  const started = performance.now()
  const a = ours(expr, tz, after)
  const between = performance.now()
  const b = reference(expr, tz, after)
  spent += between - started
  theirs += performance.now() - between
  const why = a === b ? 'same' : explain(tz, a, b)
  counts[why]++
  if (why !== 'same' && (process.env.SHOW === why || why === 'unexplained')) console.log(`${why}: ${expr} ${tz} after ${new Date(after).toISOString()}: ${isRefusal(a) ? a : a && new Date(a).toISOString()}, croner ${isRefusal(b) ? b : b && new Date(b).toISOString()}`)
}
console.log(`${PAIRS} pairs of expression and time, ${nearChange} near a change of the clock, ${ZONES.length} zones`)
for (const [why, count] of Object.entries(counts)) console.log(`${String(count).padStart(7)}  ${why}`)
console.log(`${(spent / PAIRS * 1000).toFixed(0)} µs each, croner ${(theirs / PAIRS * 1000).toFixed(0)} µs`)
process.exitCode = counts.unexplained > 0 ? 1 : 0
