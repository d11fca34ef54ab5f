/*
 * The shipped protocol, explored: every order of calls, a crash before any of them, a jump of the clocks between any two.
 *
 * Here is what fits two minutes; `task.ts` has the rest.
 */
import { afterAll, expect, test } from 'vitest'
import * as protocol from '../../lib/core/protocol.js'
import { type Explored, Explorer, type World } from './explore.js'
import { loadChanged, MUTANTS } from './mutants.js'
import { adopting, ALIVE_PID, binding, breaking, committing, DEAD_PID, holderAndTaker, JUMPS, LYING, looking, type LyingName, removing, SCRIPTS, sharedToken, world } from './worlds.js'

const MINUTES = 4 * 60_000
const total = { worlds: 0, states: 0, steps: 0, quiet: 0 }
const lines: string[] = []
afterAll(() => {
  console.log(`${lines.join('\n')}\n${total.worlds} worlds, ${total.states} states, ${total.steps} steps, ${total.quiet} quiet states, all met by a newcomer`)
})

/** Explores a world to its end. */
function explore(world: World, limit = 1_500_000): Explored {
  const result = new Explorer(protocol, world).explore(limit)
  total.worlds++
  for (const count of ['states', 'steps', 'quiet'] as const) total[count] += result[count]
  return result
}

/** Fails with the schedule when something does not hold. */
function holds(world: World): Explored {
  const result = explore(world)
  expect(result.found?.text).toBeUndefined()
  expect(result.complete).toBe(true)
  return result
}

const all = Object.keys(LYING) as LyingName[]
const watchable = all.filter((name) => /silent|empty|torn/.test(name))
/** Too many states for here. */
const DEEP: LyingName[] = ['dead lock, two dead guards']
/** Jumps that are searched together with a crash; `task.ts` does it with all. */
const CRASHING = new Set<keyof typeof JUMPS>(['rest', 'ttl', 'wallOn', 'stepOn', 'fsBack'])
/** Jumps after which nobody is late. */
const MILD = ['wallBack', 'fsOn', 'fsBack'] as const

test('two processes, one crash, from every world', { timeout: MINUTES }, () => {
  for (const name of all) {
    if (DEEP.includes(name)) continue
    const { states, quiet, leftovers } = holds(world(name, [SCRIPTS.simple, SCRIPTS.simple], []))
    lines.push(`${name}: ${states} states, ${quiet} quiet ones, at most ${leftovers} files left`)
  }
})

test('the same, where both have watched what lies there for five seconds', { timeout: MINUTES }, () => {
  for (const name of watchable) holds(world(name, [SCRIPTS.simple, SCRIPTS.simple], [], { watchedMs: 5_000 }))
})

test('a holder that renews and releases late, and one that wants its lock: one jump of any kind, for some of them also a crash', { timeout: MINUTES }, () => {
  for (const jump of Object.keys(JUMPS) as (keyof typeof JUMPS)[]) holds(holderAndTaker(jump, { maxCrashes: CRASHING.has(jump) ? 1 : 0 }))
})

test('the same, with readings that may be torn and a boot clock that lags', { timeout: MINUTES }, () => {
  for (const jump of ['rest', 'nearlyTtl'] as const) {
    holds(holderAndTaker(jump, { torn: true }))
    holds(holderAndTaker(jump, { lags: [50, 0, 0] }))
  }
})

test('two processes from a free, a dead, an expired lock, and clocks that part', { timeout: MINUTES }, () => {
  for (const name of ['free', 'dead', 'expired'] as const) for (const jump of MILD) holds(world(name, [SCRIPTS.simple, SCRIPTS.simple], [jump], { maxCrashes: 0 }))
})

test('two processes from a free lock, a crash and a jump', { timeout: MINUTES }, () => {
  for (const jump of ['ttl', 'late', 'wallOn', 'fsBack'] as const) holds(world('free', [SCRIPTS.simple, SCRIPTS.simple], [jump]))
})

// A file system's clock that alone steps by more than ten minutes makes a new file look old, and its creator does not notice.
test.fails('a server’s clock that steps by an hour', () => {
  holds(world('free', [SCRIPTS.simple, SCRIPTS.simple], ['fsFarOn'], { maxCrashes: 0 }))
})

test('three processes from a free lock', { timeout: MINUTES }, () => {
  holds(world('free', [SCRIPTS.simple, SCRIPTS.simple, SCRIPTS.simple], [], { maxCrashes: 0 }))
})

test('binding, adoption, two processes with one token, a person who breaks, and one who removes', { timeout: MINUTES }, () => {
  for (const pid of [ALIVE_PID, DEAD_PID]) for (const jump of [undefined, 'ttl', 'stepOn'] as const) holds(binding(pid, jump))
  holds(adopting(undefined))
  holds(sharedToken(undefined))
  holds(sharedToken('fsBack'))
  holds(breaking(undefined))
  for (const does of ['renew', 'confirm'] as const) holds(removing(does))
})

test('a holder that looks at its lock between two renewals', { timeout: MINUTES }, () => {
  for (const jump of [undefined, 'rest', 'fsBack', 'stepOn'] as const) holds(looking(jump))
})

test('a holder that commits acts only while the lock is its own: one jump of any kind, for some of them also a crash', { timeout: MINUTES }, () => {
  for (const jump of Object.keys(JUMPS) as (keyof typeof JUMPS)[]) holds(committing(jump, { maxCrashes: CRASHING.has(jump) ? 1 : 0 }))
})

test('each rule of the protocol is needed: without it a schedule is found', { timeout: MINUTES }, async () => {
  const table: string[] = []
  for (const { name, changes, calls, worlds } of MUTANTS) {
    const changed = await loadChanged(changes)
    const weak = calls?.(changed) ?? changed
    const found = worlds()
      .map((each) => new Explorer(weak, each).explore(600_000).found)
      .find((each) => each !== undefined)
    table.push(`${name}: ${found ? `${found.steps} steps, ${found.what}` : 'survives'}`)
    expect(found, `${name}: survives`).toBeDefined()
  }
  console.log(table.join('\n'))
})
