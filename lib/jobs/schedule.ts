import { type Duration, LockError, show, toMs } from '../core/index.js'

/*
 * When a job is due. Pure: instants are milliseconds since 1970, and the clock is the caller's.
 *
 * Cron has five fields: minute 0-59, hour 0-23, day of the month 1-31, month 1-12 or jan-dec, day of the week 0-7 or sun-sat (0 and 7 are
 * Sunday). Each is `*`, a number, a range `a-b`, one of these with a step (`/n`; `a/n` goes on to the end), or a list of them. When both
 * days are restricted (neither begins with `*`), one of them is enough: crontab(5).
 *
 * Daylight saving. A time that does not exist, because the clock jumps over it, is as much later as the clock jumps: 2:30 is then 3:30. A
 * time that exists twice fires once, the first time; only what runs in every hour (hour `*`) runs in both, so that no hour is left out.
 */

/** When a job runs: once, again and again after the end of the last run, or by the calendar. */
export type Schedule =
  | {
      kind: 'at'
      /** ISO, with its zone: `2026-11-20T09:00:00Z`. */
      at: string
    }
  | {
      kind: 'every'
      /** From the end of the last run. At least a second. */
      every: Duration
    }
  | {
      kind: 'cron'
      /** Five fields, as in a crontab. */
      expr: string
      /** As `Europe/Berlin`. Default: the machine's. */
      tz?: string
    }

/**
 * The first instant after `after` at which it is due; undefined: never again. `lastEnd` is when the last run ended. An `every` whose time
 * has passed is due at `after` itself. Throws `EINVAL`.
 */
export function nextRun(schedule: Schedule, after: number, lastEnd?: number): number | undefined {
  switch (schedule.kind) {
    case 'at': {
      const at = instantOf(schedule.at)
      return at > after ? at : undefined
    }
    case 'every':
      return Math.max(after, (lastEnd ?? after) + intervalOf(schedule.every))
    case 'cron':
      return nextMatch(cronOf(schedule.expr), zoneOf(schedule.tz), after)
  }
}

const KEYS = { at: ['kind', 'at'], every: ['kind', 'every'], cron: ['kind', 'expr', 'tz'] }

/** A schedule as it is kept: checked, an `at` in UTC. Throws `EINVAL` for what can never be due; `now`: also for an `at` that has passed. */
export function checkSchedule(value: unknown, now: number): Schedule {
  const given = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const keys = KEYS[given['kind'] as keyof typeof KEYS]
  const unknown = keys && Object.keys(given).find((key) => !keys.includes(key))
  if (!keys || unknown !== undefined) {
    const what = unknown === undefined ? show(value) : `one of kind ${show(given['kind'])} with ${show(unknown)}`
    throw new LockError('EINVAL', `schedule must be { kind: 'at', at }, { kind: 'every', every } or { kind: 'cron', expr, tz? }, not ${what}`)
  }
  const schedule = given as Schedule
  switch (schedule.kind) {
    case 'at': {
      const at = instantOf(schedule.at)
      if (at <= now) throw new LockError('EINVAL', `${show(schedule.at)} has passed; give a time after ${new Date(now).toISOString()}`)
      return { kind: 'at', at: new Date(at).toISOString() }
    }
    case 'every':
      intervalOf(schedule.every)
      return { kind: 'every', every: schedule.every }
    case 'cron':
      cronOf(schedule.expr)
      if (schedule.tz === undefined) return { kind: 'cron', expr: schedule.expr }
      zoneOf(schedule.tz)
      return { kind: 'cron', expr: schedule.expr, tz: schedule.tz }
  }
}

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/

function instantOf(at: unknown): number {
  // Date.parse takes the 30th of February for the 2nd of March.
  const [year, month, day] = typeof at === 'string' ? at.slice(0, 10).split('-').map(Number) : []
  const isThere = new Date(Date.UTC(year!, month! - 1, day)).getUTCDate() === day
  const ms = typeof at === 'string' && ISO.test(at) && isThere ? Date.parse(at) : NaN
  if (Number.isNaN(ms)) throw new LockError('EINVAL', `at must be an ISO time with its zone, of a day that there is, as 2026-11-20T09:00:00Z or …+02:00, not ${show(at)}`)
  return ms
}

const DAY_MS = 86_400_000
const SHORTEST_MS = 1_000
const LONGEST_MS = 10 * 366 * DAY_MS

function intervalOf(every: unknown): number {
  const ms = toMs(every, 'every')
  if (ms < SHORTEST_MS || ms > LONGEST_MS) throw new LockError('EINVAL', `every must be from a second to ten years, not ${show(every)}`)
  return ms
}

// ---- cron ----

interface Cron {
  minutes: number[]
  hours: number[]
  days: Set<number>
  months: Set<number>
  weekdays: Set<number>
  /** Both days are restricted: one is enough. */
  isEither: boolean
  isEveryHour: boolean
}

interface Field {
  name: string
  from: number
  to: number
  names?: string[]
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const FIELDS: Field[] = [
  { name: 'minute', from: 0, to: 59 },
  { name: 'hour', from: 0, to: 23 },
  { name: 'day of the month', from: 1, to: 31 },
  { name: 'month', from: 1, to: 12, names: MONTHS },
  { name: 'day of the week', from: 0, to: 7, names: WEEKDAYS },
]
const LONGEST_MONTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

const crons = new Map<string, Cron>()

function cronOf(expr: unknown): Cron {
  const known = crons.get(expr as string)
  if (known) return known
  const cron = parse(expr)
  remember(crons, expr as string, cron)
  return cron
}

function parse(expr: unknown): Cron {
  const fields = typeof expr === 'string' && expr.length <= 1_000 ? expr.trim().split(/\s+/) : []
  if (fields.length !== 5)
    throw new LockError('EINVAL', `a cron expression has five fields, minute hour day month weekday, as '0 9 * * mon-fri'; not ${show(expr)}`)
  const [minutes, hours, days, months, weekdays] = fields.map((text, index) => numbersIn(text, FIELDS[index]!, expr as string)) as [Set<number>, Set<number>, Set<number>, Set<number>, Set<number>]
  if (weekdays.has(7)) weekdays.add(0)
  const [, hour, day, , weekday] = fields as [string, string, string, string, string]
  const isEither = !day.startsWith('*') && !weekday.startsWith('*')
  const sorted = (numbers: Set<number>) => [...numbers].sort((a, b) => a - b)
  if (!isEither && !sorted(months).some((month) => LONGEST_MONTHS[month - 1]! >= Math.min(...days)))
    throw new LockError('EINVAL', `${show(expr)} is never due: no such month has a day ${Math.min(...days)}`)
  return { minutes: sorted(minutes), hours: sorted(hours), days, months, weekdays, isEither, isEveryHour: hour === '*' }
}

function numbersIn(text: string, field: Field, expr: string): Set<number> {
  const numbers = new Set<number>()
  for (const part of text.split(',')) {
    const [, all, first, last, step] = /^(?:(\*)|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(part) ?? []
    const from = all ? field.from : numberOf(first, field)
    const to = all || (last === undefined && step !== undefined) ? field.to : last === undefined ? from : numberOf(last, field)
    const by = step === undefined ? 1 : Number(step)
    if (!(from <= to) || by < 1) throw new LockError('EINVAL', `${show(part)} is no ${field.name}, which goes from ${field.from} to ${field.to}: in the cron expression ${show(expr)}`)
    for (let number = from; number <= to; number += by) numbers.add(number)
  }
  return numbers
}

// NaN when it is none.
function numberOf(word: string | undefined, { from, to, names }: Field): number {
  if (word === undefined) return NaN
  const index = names?.indexOf(word.toLowerCase()) ?? -1
  const number = index >= 0 ? index + from : /^\d{1,2}$/.test(word) ? Number(word) : NaN
  return number >= from && number <= to ? number : NaN
}

/** February 29 on a given day of the week comes after 40 years at the latest. */
const HORIZON_DAYS = 41 * 366

function nextMatch(cron: Cron, zone: Zone, after: number): number | undefined {
  // A time of yesterday may have been moved beyond midnight.
  const first = midnight(after + zone.offset(after)) - DAY_MS
  for (let day = first, end = first + HORIZON_DAYS * DAY_MS; day < end; day += DAY_MS) {
    const date = new Date(day)
    if (!cron.months.has(date.getUTCMonth() + 1)) {
      day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1) - DAY_MS
      continue
    }
    // Where the clock goes back at midnight, the next day begins before this one ends.
    const next = Math.min(firstOn(day, cron, zone, after), firstOn(day + DAY_MS, cron, zone, after))
    if (next < Infinity) return next
  }
  return undefined
}

// `day`: its midnight as if it were UTC. Infinity: nothing after `after`.
function firstOn(day: number, { minutes, hours, days, months, weekdays, isEither, isEveryHour }: Cron, zone: Zone, after: number): number {
  const date = new Date(day)
  const [isDay, isWeekday] = [days.has(date.getUTCDate()), weekdays.has(date.getUTCDay())]
  if (!months.has(date.getUTCMonth() + 1) || !(isEither ? isDay || isWeekday : isDay && isWeekday)) return Infinity
  const shift = zone.shiftAround(day)
  let first = Infinity
  for (const hour of hours) {
    for (const minute of minutes) {
      const [once, again] = instantsOf(day + hour * 3_600_000 + minute * 60_000, shift)
      if (once > after) first = Math.min(first, once)
      if (isEveryHour && again > after) first = Math.min(first, again)
    }
  }
  return first
}

/** How far local time is before UTC, and when that changes. */
interface Shift {
  at: number
  before: number
  then: number
}

// Twice the same, except for a time that exists twice.
function instantsOf(local: number, { at, before, then }: Shift): [number, number] {
  const [old, fresh] = [local - before, local - then]
  if (old < at) return fresh >= at ? [old, fresh] : [old, old]
  // Neither before nor after the jump: by the clock that has not jumped.
  return fresh >= at ? [fresh, fresh] : [old, old]
}

// ---- zones ----

interface Zone {
  offset(instant: number): number
  shiftAround(day: number): Shift
}

const zones = new Map<string | undefined, Zone>()

function zoneOf(tz: unknown): Zone {
  const known = zones.get(tz as string | undefined)
  if (known) return known
  const zone = newZone(tz)
  remember(zones, tz as string | undefined, zone)
  return zone
}

function newZone(tz: unknown): Zone {
  const offset = offsetIn(formatIn(tz))
  return {
    offset,
    // No zone changes its clock twice within three days.
    shiftAround(day) {
      let [from, to] = [day - DAY_MS, day + 2 * DAY_MS]
      const [before, then] = [offset(from), offset(to)]
      while (before !== then && to - from > 1) {
        const middle = Math.floor((from + to) / 2)
        if (offset(middle) === before) from = middle
        else to = middle
      }
      return { at: to, before, then }
    },
  }
}

function formatIn(tz: unknown): Intl.DateTimeFormat {
  if (tz !== undefined && (typeof tz !== 'string' || tz === '')) throw new LockError('EINVAL', `tz must be the name of a zone, as 'Europe/Berlin', not ${show(tz)}`)
  try {
    return new Intl.DateTimeFormat('en-US', { ...(tz !== undefined && { timeZone: tz as string }), hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' })
  } catch {
    throw new LockError('EINVAL', `there is no time zone ${show(tz)}; give one as 'Europe/Berlin', 'America/New_York' or 'UTC'`)
  }
}

function offsetIn(format: Intl.DateTimeFormat): Zone['offset'] {
  return (instant) => {
    const [month, day, year, hour, minute, second] = format.format(instant).match(/\d+/g)!.map(Number) as [number, number, number, number, number, number]
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(instant / 1000) * 1000
  }
}

// ---- small things ----

const midnight = (local: number) => Math.floor(local / DAY_MS) * DAY_MS

const MAX_KNOWN = 500

function remember<K, V>(known: Map<K, V>, key: K, value: V): void {
  if (known.size >= MAX_KNOWN) known.clear()
  known.set(key, value)
}
