/* Killed, or stopped for longer than the TTL, before and after every call: SQLite's crash tests, for a lock. */
import { expect, test } from 'vitest'
import type { Step } from './climber.js'
import { climb, climbBesideSleeper, type Result, type Rung, stampOfTheDead, upwards } from './rung.js'

/** Without watching, and with the five seconds of watching (YOUNG, SILENT) where that is the rule. */
const AT_ONCE_MS = 1_000
const WATCHED_MS = 8_000

const operations: { name: string; steps: Step[]; dead?: true; alwaysRenews?: true }[] = [
  { name: 'acquire', steps: ['acquire'] },
  { name: 'acquire from the dead', steps: ['acquire'], dead: true },
  { name: 'renew', steps: ['acquire', 'renew'] },
  // Others wait for the silent only: a lock that does not renew by itself is gone at the end of its TTL.
  { name: 'renew late', steps: ['acquire', 'oversleep', 'renew'], alwaysRenews: true },
  { name: 'release', steps: ['acquire', 'release'] },
]

async function ladder(width: number, signal: 'SIGKILL' | 'SIGSTOP', rung: Rung): Promise<Result[]> {
  const struck: Result[] = []
  const faults: string[] = []
  for (const when of ['before', 'after'] as const) {
    await upwards(width, async (call) => {
      const result = await climb({ ...rung, climb: { ...rung.climb, strike: { call, when, signal } } })
      faults.push(...result.faults)
      if (result.struck) struck.push(result)
      return result.struck
    })
  }
  expect(faults).toEqual([])
  return struck
}

const worst = (numbers: number[]) => Math.round(Math.max(0, ...numbers))

for (const { name, steps, dead } of operations) {
  test(`${name}: SIGKILL at every call; the contender gets in, nothing is left`, async () => {
    const deadStamp = dead && (await stampOfTheDead())
    const kills = await ladder(6, 'SIGKILL', { climb: { steps, renew: true }, deadStamp })
    const [torn, whole] = [kills.filter((kill) => kill.unstamped), kills.filter((kill) => !kill.unstamped)]
    for (const { lateMs, releaseMs } of whole) expect(Math.max(lateMs, releaseMs)).toBeLessThan(AT_ONCE_MS)
    for (const { lateMs, releaseMs } of torn) expect(lateMs + releaseMs).toBeLessThan(WATCHED_MS)
    const slowest = `slowest ${worst(whole.map((kill) => kill.lateMs))} ms, ${torn.length} without a stamp ${worst(torn.map((kill) => kill.lateMs))} ms`
    console.log(`${name}: ${kills.length / 2} calls, ${kills.length} kills, contender in: ${slowest}`)
  })
}

for (const { name, steps, dead, alwaysRenews } of operations) {
  for (const renew of alwaysRenews ? [true] : [false, true]) {
    const kind = renew ? 'renews by itself' : 'final TTL'
    test(`${name}, ${kind}: SIGSTOP beyond the TTL at every call; never two inside their leases`, async () => {
      const deadStamp = dead && (await stampOfTheDead())
      // Who renews is taken for hung after five seconds of silence.
      const pause = { atMostMs: renew ? 7_500 : 1_500 }
      const pauses = await ladder(16, 'SIGSTOP', { climb: { steps, renew }, deadStamp, pause })
      const overtaken = pauses.filter(({ overtaken }) => overtaken)
      const told = overtaken.filter(({ report }) => ['ECOMPROMISED', 'lost'].includes(report!.outcome)).length
      if (steps.at(-1) === 'renew') for (const { report } of overtaken) expect(report).toMatchObject({ held: false, released: false })
      expect(overtaken.length).toBeGreaterThan(0)
      console.log(`${name}, ${kind}: ${pauses.length} pauses, ${overtaken.length} overtaken meanwhile, ${told} told so by the call itself`)
    })
  }
}

for (const dead of [false, true]) {
  test(`acquire${dead ? ' from the dead' : ''}, long TTL: stopped until an unstamped file is taken for abandoned; who publishes late has lost`, async () => {
    const deadStamp = dead ? await stampOfTheDead() : undefined
    const pauses = await ladder(16, 'SIGSTOP', { climb: { steps: ['acquire'], renew: true }, ttl: 20_000, deadStamp, pause: { atMostMs: 7_000 } })
    const overtaken = pauses.filter(({ overtaken }) => overtaken).length
    expect(overtaken).toBeGreaterThan(0)
    console.log(`acquire${dead ? ' from the dead' : ''}, long TTL: ${pauses.length} pauses, ${overtaken} overtaken meanwhile`)
  })
}

test('recovery, stopped at every call while the holder wakes and renews late: one of them has it', async () => {
  const faults: string[] = []
  const counts = { pauses: 0, renewed: 0 }
  for (const when of ['before', 'after'] as const) {
    await upwards(6, async (call) => {
      const result = await climbBesideSleeper({ steps: ['acquire'], renew: false, strike: { call, when, signal: 'SIGSTOP' } })
      faults.push(...result.faults)
      if (result.struck) counts.pauses++
      if (result.struck && result.renewed) counts.renewed++
      return result.struck
    })
  }
  expect(faults).toEqual([])
  console.log(`recovery beside a sleeper: ${counts.pauses} pauses, the sleeper got its lease back ${counts.renewed} times`)
})
