import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isDamaged, measure, type Result } from './demo/damage.js'
import { gateRules, noRules, readFires } from './demo/fires.js'
import { type Compared, gateIntroduction, gateReport, hasFailed } from './demo/gate-report.js'
import { type Hours, runHours } from './demo/hours.js'
import { note } from './demo/journal.js'
import { replay } from './demo/replay.js'
import { report } from './demo/report.js'
import { jobs } from './demo/schedule.js'
import { tally } from './demo/tally.js'
import { projectFolder, start, tempFolder } from './support.js'

const unharmed: Result = {
  items: 11,
  workDone: 11,
  doneTwice: 0,
  neverDone: 0,
  ticksLost: 0,
  logLinesLost: 0,
  oldLinesLost: 0,
  locksLeft: 0,
  killed: { job: 'presence', item: 'an item', outcome: 'done by ci-watch' },
  waitedAfterKillMs: 12,
  wallMs: 3210,
}

const none = { times: 0, by: [] }
const fires = readFires()
const early = fires.filter(({ minute }) => minute <= 180)

test('the demo: without locks work is done twice and writes are lost, with locks nothing is, though a holder is killed; with the gate nothing is done again', async () => {
  const demo = start([process.execPath, '--import', 'tsx', 'test/demo/main.ts', '--json'], { cwd: projectFolder, env: { TMPDIR: tempFolder() } })
  expect(await demo.ended, demo.err()).toEqual({ code: 0, signal: null })
  const { without, with: locked, plain, gated, hours }: { without: Result; with: Result } & Compared = JSON.parse(demo.out())

  expect(without.doneTwice).toBeGreaterThan(0)
  expect(without.ticksLost).toBeGreaterThan(0)
  expect(without.logLinesLost).toBeGreaterThan(0)
  expect(without.waitedAfterKillMs).toBeNull()

  const { killed, waitedAfterKillMs, wallMs, ...counts } = locked
  expect(counts).toEqual({ items: 11, workDone: 11, doneTwice: 0, neverDone: 0, ticksLost: 0, logLinesLost: 0, oldLinesLost: 0, locksLeft: 0 })
  expect(killed.outcome).toMatch(/^done by (hourly|ci-watch|inbox)$/)
  // A loaded machine is slow to wake anybody; what must not happen is waiting for the TTL, which is a minute.
  expect(waitedAfterKillMs).toBeLessThan(2_000)

  expect([plain, gated].map(({ fires, shipped, doneTwice, lost }) => [fires, shipped, doneTwice, lost])).toEqual([[90, 64, 26, 0], [90, 64, 0, 0]])
  const { skipMs, ...outcome } = hours
  expect(outcome).toEqual({ fires: 11, shipped: 8, doneTwice: 0, lost: 0, writesLost: 0, skipped: { running: none, done: none, cooldown: { times: 3, by: ['presence'] } } })
  expect(skipMs).toHaveLength(3)
})

test('of 90 fires a plain lock refuses none, and 26 do the work again; the gate skips just these', () => {
  expect(tally(replay(fires, noRules))).toEqual({ fires: 90, shipped: 64, doneTwice: 26, lost: 0, skipped: { running: none, done: none, cooldown: none } })
  expect(tally(replay(fires, gateRules))).toEqual({ fires: 90, shipped: 64, doneTwice: 0, lost: 0, skipped: { running: none, done: none, cooldown: { times: 26, by: ['presence'] } } })
})

test('a cooldown that is too short lets some of them through, one that is too long loses work, and so does one for everybody', () => {
  expect(tally(replay(fires, { hourly: 5 })).doneTwice).toBeGreaterThan(0)
  expect(tally(replay(fires, { hourly: 90 })).lost).toBe(1)
  expect(tally(replay(fires, { hourly: 15, presence: 15 })).lost).toBeGreaterThan(0)
})

test('a fire that comes while another one is at work is skipped because of it', () => {
  const [first] = fires
  const during = { ...first!, job: 'hourly', minute: first!.minute + 0.5, isExtra: true }
  const after = { ...during, minute: first!.minute + 0.75 }
  expect(replay([first!, during, after], noRules).map(({ skipped }) => skipped)).toEqual([undefined, { reason: 'running', by: 'presence' }, undefined])
})

test('real processes without the rule do the work again, which is counted', async () => {
  const hours = await runHours(tempFolder(), early, noRules, 5, AbortSignal.timeout(50_000))
  expect(hours).toMatchObject({ fires: 11, shipped: 8, doneTwice: 3, lost: 0, writesLost: 0, skipMs: [] })
})

test('ticks that the queue does not have are counted', async () => {
  const folder = tempFolder()
  const running = runHours(folder, early, noRules, 5, AbortSignal.timeout(50_000))
  writeFileSync(join(folder, 'memory/contribution-queue.md'), '# Contribution queue\n')
  expect((await running).writesLost).toBe(12)
})

test('the demo counts every kind of damage', () => {
  const folder = tempFolder()
  for (const name of ['memory', 'journals']) mkdirSync(join(folder, name))
  writeFileSync(join(folder, 'memory/contribution-queue.md'), '# Contribution queue\n')
  writeFileSync(join(folder, 'memory/contribution-queue.md.lock'), '')
  writeFileSync(join(folder, 'memory/heartbeat-log.md'), '# Heartbeat log\n')
  const item = '2026-04-19: reproduce the flaky `resume` test on a slow disk (source: ci-watch)'
  for (const { name } of jobs) {
    note(folder, name, { what: 'claimed', item })
    note(folder, name, { what: 'done', item })
    note(folder, name, { what: 'ticked', item })
    note(folder, name, { what: 'logged', line: 'shipped' })
  }
  const result = measure({ folder, killedAt: 0, wallMs: 1 })
  expect(result).toMatchObject({ workDone: 4, doneTwice: 1, neverDone: 10, ticksLost: 4, logLinesLost: 4, locksLeft: 1, killed: { job: 'presence', item, outcome: 'lost' } })
  expect(result.oldLinesLost).toBeGreaterThan(20)
})

test.each(['doneTwice', 'neverDone', 'ticksLost', 'logLinesLost', 'oldLinesLost', 'locksLeft'] as const)('one %s is damage', (kind) => {
  expect(isDamaged(unharmed)).toBe(false)
  expect(isDamaged({ ...unharmed, [kind]: 1 })).toBe(true)
})

test("the demo's report fits into 80 columns, and is coloured only on request", () => {
  const harmed = { ...unharmed, doneTwice: 10, neverDone: 10, logLinesLost: 100 }
  const plain = report(harmed, unharmed, '/tmp/lockpact-demo', false)
  expect(plain.split('\n').filter((line) => line.length > 80)).toEqual([])
  expect(plain).not.toContain('\x1b')
  expect(report(harmed, unharmed, '/tmp/lockpact-demo', true)).toContain('\x1b[31m')

  const gates = compared({})
  const text = gateIntroduction(fires) + gateReport(gates, '/tmp/lockpact-demo', false) + gateReport(compared({ lost: 1 }), '/tmp/lockpact-demo', false)
  expect(text.split('\n').filter((line) => line.length > 80)).toEqual([])
  expect(text).not.toContain('\x1b')
  expect(text).toContain('13 to\n26 minutes')
  expect(gateReport(gates, '/tmp/lockpact-demo', true)).toContain('\x1b[31m')
})

test.each(['doneTwice', 'lost', 'writesLost'] as const)('one %s with the gate is a failure', (kind) => {
  expect(hasFailed(compared({}))).toBe(false)
  expect(hasFailed(compared({ [kind]: 1 }))).toBe(true)
})

function compared(change: Partial<Hours>): Compared {
  const hours = { ...tally(replay(early, gateRules)), writesLost: 0, skipMs: [0.4, 31.2, 0.5], ...change }
  return { plain: tally(replay(fires, noRules)), gated: tally(replay(fires, gateRules)), hours }
}
