/*
 * When a job is due. `bench/cron.mjs` holds the same function against a cron library over ten thousand random pairs.
 */
import { nextRun } from 'lockpact/jobs'
import { describe, expect, test } from 'vitest'

const at = (time: string) => Date.parse(time.length === 10 ? `${time}T00:00:00Z` : `${time}Z`)
const show = (ms: number | undefined) => (ms === undefined ? 'never' : new Date(ms).toISOString().slice(0, 16))

/** The next `count` times, in UTC. */
function times(expr: string, tz: string, after: string, count: number): string[] {
  const found: string[] = []
  for (let ms: number | undefined = at(after); found.length < count; found.push(show(ms))) ms = nextRun({ kind: 'cron', expr, tz }, ms!)
  return found
}

test.each([
  ['* * * * *', '2026-11-20T09:00', ['2026-11-20T09:01', '2026-11-20T09:02']],
  ['*/20 * * * *', '2026-11-20T09:05', ['2026-11-20T09:20', '2026-11-20T09:40', '2026-11-20T10:00']],
  ['7/20 * * * *', '2026-11-20T09:05', ['2026-11-20T09:07', '2026-11-20T09:27', '2026-11-20T09:47']],
  ['0 9-17/4 * * mon-fri', '2026-11-20T09:00', ['2026-11-20T13:00', '2026-11-20T17:00', '2026-11-23T09:00']],
  ['5,3 0 * * *', '2026-11-20', ['2026-11-20T00:03', '2026-11-20T00:05', '2026-11-21T00:03']],
  ['0 0 1 jan *', '2026-11-20', ['2027-01-01T00:00', '2028-01-01T00:00']],
  ['0 0 * JAN,Jul Sun', '2026-11-20', ['2027-01-03T00:00', '2027-01-10T00:00']],
  ['0 0 * * 0', '2026-11-20', ['2026-11-22T00:00', '2026-11-29T00:00']],
  ['0 0 * * 7', '2026-11-20', ['2026-11-22T00:00', '2026-11-29T00:00']],
  ['0 0 * * 5-7', '2026-11-20', ['2026-11-21T00:00', '2026-11-22T00:00', '2026-11-27T00:00']],
  // Both days restricted: one is enough. One that begins with * restricts nothing.
  ['0 0 1 * mon', '2026-11-20', ['2026-11-23T00:00', '2026-11-30T00:00', '2026-12-01T00:00']],
  ['0 0 */2 * mon', '2026-11-20', ['2026-11-23T00:00', '2026-12-07T00:00']],
  ['0 0 31 * *', '2026-11-20', ['2026-12-31T00:00', '2027-01-31T00:00', '2027-03-31T00:00']],
  ['0 0 31 2 mon', '2026-11-20', ['2027-02-01T00:00', '2027-02-08T00:00']],
  // Leap years.
  ['0 0 29 2 *', '2026-11-20', ['2028-02-29T00:00', '2032-02-29T00:00']],
  ['0 0 29 feb *', '2096-03-01', ['2104-02-29T00:00']],
  ['59 23 29 2 */7', '2064-03-01', ['2088-02-29T23:59', '2128-02-29T23:59']],
] as const)('cron %s after %s', (expr, after, expected) => {
  expect(times(expr, 'UTC', after, expected.length)).toEqual(expected)
})

describe('a clock that jumps', () => {
  test.each([
    // Forwards: 2:00 is 3:00.
    ['a time that does not exist is as much later', '30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00', ['2026-03-29T01:30', '2026-03-30T00:30']],
    ['what falls on one moment fires once', '30 2,3 * * *', 'Europe/Berlin', '2026-03-28T22:00', ['2026-03-29T01:30', '2026-03-30T00:30', '2026-03-30T01:30']],
    ['every hour goes on', '0 * * * *', 'Europe/Berlin', '2026-03-28T23:30', ['2026-03-29T00:00', '2026-03-29T01:00', '2026-03-29T02:00']],
    ['midnight itself is jumped over', '0 0 * * *', 'America/Santiago', '2026-09-05T12:00', ['2026-09-06T04:00', '2026-09-07T03:00']],
    ['half an hour', '15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T00:00', ['2026-10-03T15:45', '2026-10-04T15:15']],
    ['a whole day', '0 10 30 12 *', 'Pacific/Apia', '2011-12-01', ['2011-12-30T20:00', '2012-12-29T20:00']],
    // Back: 3:00 is 2:00 again.
    ['a time that exists twice fires once, the first time', '30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00', ['2026-10-25T00:30', '2026-10-26T01:30']],
    ['so do several', '*/30 1-3 * * *', 'Europe/Berlin', '2026-10-24T23:15', ['2026-10-24T23:30', '2026-10-25T00:00', '2026-10-25T00:30', '2026-10-25T02:00']],
    ['what runs in every hour leaves none out', '*/30 * * * *', 'Europe/Berlin', '2026-10-24T23:45', ['2026-10-25T00:00', '2026-10-25T00:30', '2026-10-25T01:00', '2026-10-25T01:30', '2026-10-25T02:00']],
    ['the new day begins twice', '30 0 * * *', 'America/Havana', '2026-10-31T12:00', ['2026-11-01T04:30', '2026-11-02T05:30']],
    ['the old day ends twice', '30 23 * * *', 'America/Santiago', '2026-04-04T12:00', ['2026-04-05T02:30', '2026-04-06T03:30']],
    ['without one, all is the same', '30 2 * * *', 'Asia/Kolkata', '2026-03-28T12:00', ['2026-03-28T21:00', '2026-03-29T21:00']],
  ])('%s: %s in %s', (_, expr, tz, after, expected) => {
    expect(times(expr, tz, after, expected.length)).toEqual(expected)
  })

  test('every day of a year, each once, in every zone that is tried', () => {
    let count = 0
    for (const tz of ['Europe/Berlin', 'America/New_York', 'America/Santiago', 'Africa/Cairo', 'Australia/Lord_Howe', 'UTC']) {
      for (const hour of [0, 2, 3, 23]) {
        const days = times(`30 ${hour} * * *`, tz, '2026-01-05T12:00', 365).map((time) => new Date(`${time}Z`).toLocaleDateString('sv', { timeZone: tz }))
        expect(new Set(days).size, `${tz} ${hour}`).toBe(365)
        count += 365
      }
    }
    console.log(`schedule: ${count} days in 6 zones, each once`)
  })
})

test('once, and again and again', () => {
  const now = at('2026-11-20')
  expect(show(nextRun({ kind: 'at', at: '2026-11-20T10:00:00+01:00' }, now))).toBe('2026-11-20T09:00')
  expect(nextRun({ kind: 'at', at: '2026-11-20T00:00:00Z' }, now)).toBe(undefined)
  expect(show(nextRun({ kind: 'every', every: '30m' }, now))).toBe('2026-11-20T00:30')
  expect(show(nextRun({ kind: 'every', every: '30m' }, now, at('2026-11-19T23:50')))).toBe('2026-11-20T00:20')
  // Missed once or often, it is due now.
  expect(show(nextRun({ kind: 'every', every: '30m' }, now, at('2026-11-19T20:00')))).toBe('2026-11-20T00:00')
})

describe('what can never be due', () => {
  test.each([
    ['61 * * * *', '"61" is no minute, which goes from 0 to 59'],
    ['* 24 * * *', '"24" is no hour'],
    ['* * 0 * *', '"0" is no day of the month'],
    ['* * * 13 *', '"13" is no month'],
    ['* * * * 8', '"8" is no day of the week'],
    ['* * * * tuesday', '"tuesday" is no day of the week'],
    ['5-1 * * * *', '"5-1" is no minute'],
    ['*/0 * * * *', '"*/0" is no minute'],
    ['1,,2 * * * *', '"" is no minute'],
    ['-1 * * * *', '"-1" is no minute'],
    ['* * * *', 'has five fields'],
    ['* * * * * *', 'has five fields'],
    ['@daily', 'has five fields'],
    ['', 'has five fields'],
    ['0 0 31 2 *', 'is never due: no such month has a day 31'],
    ['0 0 30,31 feb *', 'is never due: no such month has a day 30'],
    ['0 0 31 4,6,9,11 */2', 'is never due'],
  ])('%s', (expr, message) => {
    expect(() => nextRun({ kind: 'cron', expr }, 0)).toThrow(expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining(message) as string }) as Error)
  })

  test.each([
    [{ kind: 'cron', expr: '* * * * *', tz: 'Europe/Bonn' }, "there is no time zone \"Europe/Bonn\"; give one as 'Europe/Berlin'"],
    [{ kind: 'cron', expr: '* * * * *', tz: '' }, 'tz must be the name of a zone'],
    [{ kind: 'at', at: 'tomorrow' }, 'at must be an ISO time with its zone'],
    [{ kind: 'at', at: '2026-11-20T09:00:00' }, 'at must be an ISO time with its zone'],
    [{ kind: 'at', at: '2026-13-20T09:00:00Z' }, 'at must be an ISO time with its zone'],
    [{ kind: 'at', at: '2027-02-30T00:00:00Z' }, 'of a day that there is'],
    [{ kind: 'every', every: '10' }, 'every must be milliseconds or a text like'],
    [{ kind: 'every', every: 0 }, 'every must be from a second'],
    [{ kind: 'every', every: Infinity }, 'every must be from a second'],
  ] as const)('%j', (schedule, message) => {
    expect(() => nextRun(schedule as never, 0)).toThrow(expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining(message) as string }) as Error)
  })
})
