/*
 * Ladders: killed, or stopped for longer than the TTL, before and after every call, as SQLite's crash tests do it, with a contender
 * waiting. Some in `npm test`, all of them in `npm run test:deep`.
 */
import { afterAll, expect } from 'vitest'
import type { Step, Strike } from './deep/climber.js'
import { climb, type Result, stampOfTheDead, upwards } from './deep/rung.js'

/** Without watching, and with the five seconds of watching (YOUNG, SILENT) where that is the rule. */
const AT_ONCE_MS = 1_000
const WATCHED_MS = 8_000

export type Kind = 'final TTL' | 'renews by itself'

export interface Operation {
  name: string
  /** The last one is struck. */
  steps: Step[]
  /** It begins with the lock of a dead holder. */
  dead?: true
  /** How many calls it makes at the lock and its guards when nobody is in its way. It may make more, but a ladder that finds fewer is broken. */
  calls: Partial<Record<Kind, number>>
}

export const OPERATIONS: Operation[] = [
  { name: 'acquire', steps: ['acquire'], calls: { 'final TTL': 4, 'renews by itself': 4 } },
  { name: 'acquire from the dead', steps: ['acquire'], dead: true, calls: { 'final TTL': 19, 'renews by itself': 19 } },
  { name: 'renew', steps: ['acquire', 'renew'], calls: { 'final TTL': 15, 'renews by itself': 7 } },
  // Others wait for the silent only: a lock that does not renew by itself is gone at the end of its TTL.
  { name: 'renew late', steps: ['acquire', 'oversleep', 'renew'], calls: { 'renews by itself': 18 } },
  { name: 'release', steps: ['acquire', 'release'], calls: { 'final TTL': 9, 'renews by itself': 9 } },
]

export const kindsOf = ({ calls }: Operation) => Object.keys(calls) as Kind[]

const total = { SIGKILL: 0, SIGSTOP: 0 }
afterAll(() => console.log(`ladders, in all: ${total.SIGKILL} kills, ${total.SIGSTOP} pauses`))

interface Ladder {
  name: string
  signal: Strike['signal']
  /** How many calls there must be. */
  atLeast: number
  /** How many climb at a time, before and after each. */
  width: number
}

/** Strikes before and after call 1, 2, 3 … until there is no such call. `calls`: at so many somebody was struck both before and after. */
export async function ladder<R extends Pick<Result, 'struck' | 'faults'>>({ name, signal, atLeast, width }: Ladder, rung: (strike: Strike) => Promise<R>): Promise<{ struck: R[]; calls: number }> {
  const struck: R[] = []
  const faults: string[] = []
  const climbAll = (when: Strike['when']) =>
    upwards(width, async (call) => {
      const result = await rung({ call, when, signal })
      faults.push(...result.faults)
      if (result.struck) struck.push(result)
      return result.struck
    })
  const calls = Math.min(...(await Promise.all([climbAll('before'), climbAll('after')])))
  expect(faults, name).toEqual([])
  expect(calls, `calls of ${name}`).toBeGreaterThanOrEqual(atLeast)
  total[signal] += struck.length
  return { struck, calls }
}

const worst = (numbers: number[]) => Math.round(Math.max(0, ...numbers))

/** The contender gets in, at once where it need not watch, and nothing is left. */
export async function kill({ name, steps, dead, calls: atLeast }: Operation): Promise<void> {
  const deadStamp = dead && (await stampOfTheDead())
  const { struck: kills, calls } = await ladder({ name, signal: 'SIGKILL', atLeast: atLeast['renews by itself']!, width: 3 }, (strike) => climb({ climb: { steps, renew: true, strike }, deadStamp }))
  const [torn, whole] = [kills.filter((kill) => kill.unstamped), kills.filter((kill) => !kill.unstamped)]
  for (const { lateMs, releaseMs } of whole) expect(Math.max(lateMs, releaseMs)).toBeLessThan(AT_ONCE_MS)
  // Between creating and writing.
  if (steps.at(-1) === 'acquire') expect(torn.length).toBeGreaterThan(0)
  for (const { lateMs, releaseMs } of torn) expect(lateMs + releaseMs).toBeLessThan(WATCHED_MS)
  const slowest = `slowest ${worst(whole.map((kill) => kill.lateMs))} ms, ${torn.length} without a stamp ${worst(torn.map((kill) => kill.lateMs))} ms`
  console.log(`${name}: ${kills.length} kills at ${calls} calls, contender in: ${slowest}`)
}

/** Never two inside their leases. */
export async function pause({ name, steps, dead, calls: atLeast }: Operation, kind: Kind): Promise<void> {
  const deadStamp = dead && (await stampOfTheDead())
  const renew = kind === 'renews by itself'
  // Who renews is taken for hung after five seconds of silence.
  const pause = { atMostMs: renew ? 7_500 : 1_500 }
  const { struck: pauses, calls } = await ladder({ name, signal: 'SIGSTOP', atLeast: atLeast[kind]!, width: renew ? 10 : 3 }, (strike) => climb({ climb: { steps, renew, strike }, deadStamp, pause }))
  const overtaken = pauses.filter(({ overtaken }) => overtaken)
  const told = overtaken.filter(({ report }) => ['ECOMPROMISED', 'lost'].includes(report!.outcome)).length
  if (steps.at(-1) === 'renew') for (const { report } of overtaken) expect(report).toMatchObject({ held: false, released: false })
  // Of a release only the first rung is: on a busy machine that one may be missed.
  if (name !== 'release') expect(overtaken.length).toBeGreaterThan(0)
  console.log(`${name}, ${kind}: ${pauses.length} pauses at ${calls} calls, ${overtaken.length} overtaken meanwhile, ${told} told so by the call itself`)
}
