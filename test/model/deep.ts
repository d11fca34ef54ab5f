/*
 * What takes longer than two minutes: `tsx test/model/deep.ts [search|walks] [limit]`.
 *
 * `search`: every world with every jump and one crash, each up to `limit` states (a search that was cut short says so), and three
 * processes. `walks`: random walks of `limit` steps in all, with four processes, two crashes and three jumps.
 */
import * as protocol from '../../lib/core/protocol.js'
import { type Action, Explorer, type World } from './explore.js'
import { adopting, apart, binding, ALIVE_PID, DEAD_PID, FINAL, holderAndTaker, JUMPS, LONG, LYING, type LyingName, SCRIPTS, sharedToken, world } from './worlds.js'

type JumpName = keyof typeof JUMPS
const [what = 'search', limitText, seedText = '1'] = process.argv.slice(2)
const names = Object.keys(LYING) as LyingName[]
// A server's clock alone by more than ten minutes is beyond what is promised.
const jumps = (Object.keys(JUMPS) as JumpName[]).filter((name) => name !== 'fsFarOn')
const { simple, renewing, patient } = SCRIPTS
const two = [simple, simple]

function* worlds(): Generator<World> {
  for (const name of names) {
    yield world(name, [patient, renewing], [])
    for (const jump of jumps) yield world(name, two, [jump])
  }
  for (const jump of jumps) {
    yield world('free', [renewing, renewing], [jump])
    yield world('free', [LONG, FINAL], [jump])
    yield holderAndTaker(jump, { maxJumps: 2 })
    yield holderAndTaker(jump, { torn: true, maxCrashes: 1 })
    yield sharedToken(jump)
    yield adopting(jump)
    for (const pid of [ALIVE_PID, DEAD_PID]) yield binding(pid, jump, { maxJumps: 2 })
  }
  for (const name of names) yield apart(name, ['pause'])
  for (const name of ['free', 'dead', 'expired'] as const) yield world(name, [simple, simple, simple], [], { maxCrashes: 0 })
}

function search(limit: number): void {
  const total = { worlds: 0, complete: 0, states: 0, steps: 0, violations: 0 }
  for (const each of worlds()) {
    const result = new Explorer(protocol, each).explore(limit)
    const { states, steps, quiet, deepest, leftovers, complete, found } = result
    total.worlds++
    total.states += states
    total.steps += steps
    if (complete && !found) total.complete++
    if (found) total.violations++
    const how = [...each.jumps.map(({ name }) => name), `${each.maxJumps} jumps`, `${each.maxCrashes} crashes`, `${each.scripts.length} processes`].join(', ')
    console.log(`${each.name} (${how}): ${states} states, ${quiet} quiet, ${deepest} deep, at most ${leftovers} files left${complete ? '' : ', cut short'}`)
    if (found) console.log(found.text)
  }
  console.log(total)
  if (total.violations > 0) process.exitCode = 1
}

function walks(limit: number, seed: number): void {
  let random = seed >>> 0
  const pick = (count: number) => {
    random ^= random << 13
    random ^= random >>> 17
    random ^= random << 5
    return (random >>> 0) % count
  }
  let steps = 0
  let count = 0
  while (steps < limit) {
    const name = names[pick(names.length)]!
    const four = [simple, renewing, patient, [simple, renewing, LONG, FINAL][pick(4)]!]
    // More crashes and jumps than MAX_GUARDS is made for: a tower of guards that only a person removes may be left.
    const each = world(name, four, [0, 0, 0].map(() => jumps[pick(jumps.length)]!), { maxJumps: 3, maxCrashes: 2, towers: true })
    const explorer = new Explorer(protocol, each)
    // A thousand walks share what was run.
    for (let walk = 0; walk < 1_000 && steps < limit; walk++, count++) {
      let state = explorer.begin()
      const schedule: Action[] = []
      for (let actions = explorer.actions(state); actions.length > 0; actions = explorer.actions(state)) {
        // Jumps and crashes are rare, else nobody gets anywhere.
        const plain = actions.filter(({ kind }) => kind === 'step' || kind === 'skip')
        const action = plain.length > 0 && pick(30) > 0 ? plain[pick(plain.length)]! : actions[pick(actions.length)]!
        schedule.push(action)
        steps++
        state = explorer.apply(state, action)
        const wrong = explorer.check(state) ?? (explorer.isQuiet(state) ? explorer.checkQuiet(state) : undefined)
        if (wrong === undefined) continue
        console.log(explorer.print(schedule, wrong))
        process.exitCode = 1
        return
      }
    }
  }
  console.log(`${count} walks, ${steps} steps: no violation`)
}

if (what === 'walks') walks(Number(limitText ?? 1e8), Number(seedText))
else search(Number(limitText ?? 3e6))
