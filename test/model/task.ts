/*
 * What `deep.ts` lets do: one world searched to its end, or a stretch of random walks.
 */
import * as protocol from '../../lib/core/protocol.js'
import { type Action, Explorer, type World } from './explore.js'
import { adopting, adoptingAlive, ALIVE_PID, apart, binding, both, breaking, committing, DEAD_PID, FINAL, holderAndTaker, inContainers, type JumpName, LONG, LYING, type LyingName, NEARLY_OVER, nudged, overdue, PARTING, SCRIPTS, sharedAfar, sharedToken, sharing, staying, sweeping, watchedGuard, world } from './worlds.js'

export type Task = { search: number; limit: number } | { walk: number; steps: number; seed: number }
export interface Done {
  lines: string[]
  counts: Record<string, number>
}

const names = Object.keys(LYING) as LyingName[]
// A server's clock alone by more than ten minutes is beyond what is promised.
const jumps: JumpName[] = ['stepOn', 'ttl', 'late', 'fsBack', 'wallOn', 'half', 'minute', 'noWall', 'rest', 'pause', 'nearlyTtl', 'stepBack', 'wallBack', 'fsOn', 'ten']
/** Those after which who cannot see a holder may still go by the time of its file. */
const APART: JumpName[] = ['late', 'nearlyTtl', 'ttl', 'rest', 'pause', 'fsBack', 'wallOn', 'wallBack']
const FEW: JumpName[] = ['ttl', 'late', 'rest', 'fsBack', 'fsOn', 'wallBack', 'stepBack']
/** What a sweeper may find there, without what was left behind at it. */
const FOUND: LyingName[] = ['free', 'dead', 'expired', 'out of sight', 'empty, old']
const { simple, renewing, patient, working } = SCRIPTS

// With a jump it has too many states; and two that died before and one that dies after it was late are more than MAX_GUARDS is made for.
const TWO_GUARDS: LyingName = 'dead lock, two dead guards'

/** Nobody sees whether another lives; A is held up for half a minute before each of three calls in a row, whichever, and what B may do then is searched. */
function heldUp(name: LyingName): World[] {
  const each = apart(name, { unreduced: true })
  const explorer = new Explorer(protocol, each)
  let calls = 0
  for (let state = explorer.begin(); state.processes[0]!.node!.call!.do !== 'exit'; calls++) state = explorer.apply(state, { kind: 'step', p: 0 })
  return Array.from({ length: Math.max(0, calls - 1) }, (_, before) => ({ ...each, beginning: `${'A'.repeat(before)}JAJAJ` }))
}

const worlds: World[] = [
  world(TWO_GUARDS, [simple, simple], []),
  ...jumps.flatMap((jump) => [
    ...names.filter((name) => name !== TWO_GUARDS).map((name) => world(name, [simple, simple], [jump])),
    world('free', [renewing, renewing], [jump]),
    world('free', [LONG, FINAL], [jump]),
    ...[true, false].map((renews) => holderAndTaker(jump, { torn: true, maxCrashes: 1 }, renews)),
    committing(jump),
    adopting(jump),
    adoptingAlive(jump, { maxCrashes: 1 }),
    staying('free', [jump]),
    ...[ALIVE_PID, DEAD_PID].map((pid) => binding(pid, jump, { maxJumps: 2 })),
  ]),
  ...APART.flatMap((jump) => [...[true, false].map((renews) => inContainers(holderAndTaker(jump, { maxCrashes: 1 }, renews))), inContainers(holderAndTaker(jump, { torn: true, maxCrashes: 1 }, true, NEARLY_OVER)), inContainers(committing(jump)), sharedAfar(jump, { maxCrashes: 1 })]),
  ...FEW.flatMap((jump) => [staying('dead', [jump]), ...FOUND.map((name) => sweeping(world(name, [simple], [jump])))]),
  ...names.map((name) => staying(name, [], { maxCrashes: 1 })),
  ...(['rest', 'late', 'ttl', 'fsBack', 'stepBack'] as const).map((jump) => sharing([jump], { processes: [] })),
  sharing(['moment'], { renews: true }, NEARLY_OVER),
  ...(['wallBack', 'wallOn', 'fsBack'] as const).map((jump) => inContainers(holderAndTaker('late', { jumps: [both(jump, 'late')], maxCrashes: 1 }, true, NEARLY_OVER))),
  nudged(),
  watchedGuard({ maxCrashes: 1 }),
  overdue(['moment'], { torn: true, maxCrashes: 1, maxJumps: 2 }),
  ...[...PARTING, 'late' as const].map((jump) => overdue(['moment', jump])),
  // Two jumps by which everything gets old are too much elsewhere; so is one, beside a person who breaks (28 million states).
  ...FEW.flatMap((jump) => [holderAndTaker(jump, { maxJumps: 2 }), committing(jump, { maxJumps: 2 })]),
  ...FEW.filter((jump) => jump !== 'ttl').map(sharedToken),
  ...(['fsBack', 'fsOn', 'wallBack', 'stepBack'] as const).map(breaking),
  ...names.map((name) => world(name, [patient, renewing], [])),
  ...names.filter((name) => name !== TWO_GUARDS).map((name) => world(name, [simple, renewing], ['ttl'])),
  ...names.flatMap((name) => [apart(name, { maxJumps: 1 }), ...heldUp(name)]),
  ...(['free', 'dead', 'expired'] as const).map((name) => world(name, [simple, simple, simple], [], { maxCrashes: 0 })),
]

function search(each: World, limit: number): Done {
  const { states, steps, quiet, deepest, leftovers, complete, found } = new Explorer(protocol, each).explore(limit)
  const how = [...each.jumps.map(({ name }) => name), `${each.maxJumps} jumps`, `${each.maxCrashes} crashes`, `${each.scripts.length} processes`].join(', ')
  const line = `${each.name} (${how}): ${states} states, ${quiet} quiet, ${deepest} deep, at most ${leftovers} files left${complete ? '' : ', CUT SHORT'}`
  return { lines: found ? [line, found.text] : [line], counts: { worlds: 1, 'cut short': complete ? 0 : 1, states, steps, violations: found ? 1 : 0 } }
}

/** Random schedules of four processes, with two crashes and three jumps. */
function walk(limit: number, seed: number): Done {
  let random = Math.imul(seed, 0x9e3779b1) >>> 0 || 1
  const pick = (count: number) => {
    random ^= random << 13
    random ^= random >>> 17
    random ^= random << 5
    return (random >>> 0) % count
  }
  let steps = 0
  let walks = 0
  while (steps < limit) {
    const four = [simple, renewing, patient, [simple, working, LONG, FINAL][pick(4)]!]
    // More crashes and jumps than MAX_GUARDS is made for: a tower of guards that only a person removes may be left.
    // And clocks that step there and back make anything old for a moment: only what is foreign must stay.
    const name = names[pick(names.length)]!
    const each = world(name, four, [0, 0, 0].map(() => jumps[pick(jumps.length)]!), { maxJumps: 3, maxCrashes: 2, towers: true })
    if (name !== 'foreign') delete each.keepsMs
    const explorer = new Explorer(protocol, each)
    // A thousand walks share what was run.
    for (let times = 0; times < 1_000 && steps < limit; times++, walks++) {
      let state = explorer.begin()
      const schedule: Action[] = []
      for (;;) {
        // Jumps and crashes are rare, else nobody gets anywhere.
        let actions = pick(30) > 0 ? explorer.moves(state).filter(({ kind }) => kind !== 'crash') : []
        if (actions.length === 0) actions = explorer.actions(state)
        if (actions.length === 0) break
        const action = actions[pick(actions.length)]!
        schedule.push(action)
        steps++
        const { after, wrong = after && explorer.isQuiet(after) ? explorer.checkQuiet(after) : undefined } = explorer.attempt(state, action)
        if (wrong !== undefined) return { lines: [explorer.print(schedule, wrong)], counts: { walks, steps, violations: 1 } }
        state = after!
      }
    }
  }
  return { lines: [], counts: { walks, steps, violations: 0 } }
}

process.on('message', (task: Task) => {
  const isThere = 'search' in task ? task.search < worlds.length : task.steps > 0
  process.send!(!isThere ? null : 'search' in task ? search(worlds[task.search]!, task.limit) : walk(task.steps, 1_000_000 * task.seed + task.walk))
})
