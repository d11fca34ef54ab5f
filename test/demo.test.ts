import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isDamaged, measure, type Result } from './demo/damage.js'
import { note } from './demo/journal.js'
import { report } from './demo/report.js'
import { jobs } from './demo/schedule.js'
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

test('the demo: without locks work is done twice and writes are lost, with locks nothing is, though a holder is killed', async () => {
  const demo = start([process.execPath, '--import', 'tsx', 'test/demo/main.ts', '--json'], { cwd: projectFolder, env: { TMPDIR: tempFolder() } })
  expect(await demo.ended, demo.err()).toEqual({ code: 0, signal: null })
  const { without, with: locked }: { without: Result; with: Result } = JSON.parse(demo.out())

  expect(without.doneTwice).toBeGreaterThan(0)
  expect(without.ticksLost).toBeGreaterThan(0)
  expect(without.logLinesLost).toBeGreaterThan(0)
  expect(without.waitedAfterKillMs).toBeNull()

  const { killed, waitedAfterKillMs, wallMs, ...counts } = locked
  expect(counts).toEqual({ items: 11, workDone: 11, doneTwice: 0, neverDone: 0, ticksLost: 0, logLinesLost: 0, oldLinesLost: 0, locksLeft: 0 })
  expect(killed.outcome).toMatch(/^done by (hourly|ci-watch|inbox)$/)
  // A loaded machine is slow to wake anybody; what must not happen is waiting for the TTL, which is a minute.
  expect(waitedAfterKillMs).toBeLessThan(2_000)
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
})
