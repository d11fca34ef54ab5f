/*
 * The worlds from which schedules are explored: what lies there at the beginning, who comes, which clocks jump.
 */
import type { Watch } from '../../lib/core/protocol.js'
import { encode, type Stamp } from '../../lib/core/stamp.js'
import type { Machine } from '../../lib/core/system.js'
import { BEGIN, type Jump, type World } from './explore.js'
import { alive, FIRST_PID, pathOf, startOf } from './machine.js'
import { hex, lockIdOf, machineOf, type Operation, type Script } from './process.js'

export const TTL = 10_000
const DEAD_PID = 900
const ALIVE_PID = 950

const together = (name: string, ms: number): Jump => ({ name, boot: ms, wall: ms, fs: ms })

export const JUMPS = {
  moment: together('half a second passes', 500),
  late: together('2.5 s pass', 2_500),
  nearlyTtl: together('the TTL less half a granule passes', TTL - 25),
  ttl: together('the TTL passes', TTL + 100),
  half: together('31 s pass', 31_000),
  rest: together('the rest of the TTL passes', TTL - 5_000 + 100),
  pause: together('29 s pass', 29_000),
  minute: together('61 s pass', 61_000),
  ten: together('ten minutes pass', 601_000),
  wallOn: { name: 'the wall clock is set on by an hour', boot: 0, wall: 3_600_000, fs: 0 },
  wallBack: { name: 'the wall clock is set back by an hour', boot: 0, wall: -3_600_000, fs: 0 },
  stepOn: { name: 'the machine’s time is set on by an hour', boot: 0, wall: 3_600_000, fs: 3_600_000 },
  stepBack: { name: 'the machine’s time is set back by an hour', boot: 0, wall: -3_600_000, fs: -3_600_000 },
  fsOn: { name: 'the server’s clock is set on by half a minute', boot: 0, wall: 0, fs: 30_000 },
  fsFarOn: { name: 'the server’s clock is set on by an hour', boot: 0, wall: 0, fs: 3_600_000 },
  fsBack: { name: 'the server’s clock is set back by half a minute', boot: 0, wall: 0, fs: -30_000 },
  noWall: { name: 'a minute passes that the wall clock does not show', boot: 61_000, wall: 0, fs: 61_000 },
} satisfies Record<string, Jump>

export type JumpName = keyof typeof JUMPS

/** Both at once. */
export function both(one: JumpName, other: JumpName): Jump {
  const [a, b] = [JUMPS[one], JUMPS[other]]
  return { name: `${a.name}, and ${b.name}`, boot: a.boot + b.boot, wall: a.wall + b.wall, fs: a.fs + b.fs }
}

/** After these nobody has been away, only clocks part. */
export const PARTING = ['wallOn', 'wallBack', 'stepOn', 'stepBack', 'fsOn', 'fsBack'] as const
/** The age of a lock whose lease is about to be over. */
export const NEARLY_OVER = TTL - 200

// ---- what lies there ----

interface Lying {
  level: number
  text: string
  ageMs: number
}

const here = machineOf(0, '0')

export function stampOf(pid: number | undefined, ageMs: number, more: Partial<Stamp> = {}): Stamp {
  const { boot, pidns, timens, host } = here
  return { v: 1, id: hex(pid ?? 0xff, 16), processes: pid === undefined ? [] : [{ pid, start: startOf(pid) }], boot, pidns, timens, host, ttlMs: TTL, renews: true, bootMs: BEGIN.boot - ageMs, ...more }
}

const guardOf = (pid: number, more: Partial<Stamp> = {}): Stamp => ({ ...stampOf(pid, 0, more), ttlMs: undefined, renews: undefined, bootMs: undefined })
const lying = (level: number, ageMs: number, content: Stamp | string): Lying => ({ level, ageMs, text: typeof content === 'string' ? content : encode(content) })
const elsewhere = { boot: 'boot-2', pidns: '2', timens: '2', host: 'there' }

const TORN = '{"v":1,"id":"00000000000'

/** A Watch that has seen a lying file stay as it is for so long. */
function watching(files: Lying[], ms: number): Watch {
  return { seen: new Map(files.map(({ level, text, ageMs }) => [pathOf(level), { what: `${BEGIN.fs - ageMs} ${text}`, since: BEGIN.boot - ms, last: BEGIN.boot }])) }
}

export const LYING = {
  free: [],
  dead: [lying(0, 3_000, stampOf(DEAD_PID, 3_000))],
  expired: [lying(0, 70_000, stampOf(ALIVE_PID, 70_000, { renews: false }))],
  'nearly expired': [lying(0, 5_000, stampOf(ALIVE_PID, 5_000, { renews: false }))],
  silent: [lying(0, 70_000, stampOf(ALIVE_PID, 70_000))],
  detached: [lying(0, 70_000, stampOf(undefined, 70_000, { renews: false }))],
  'out of sight': [lying(0, 100_000, stampOf(7, 100_000, elsewhere))],
  'out of sight, not yet expired': [lying(0, 5_000, stampOf(7, 5_000, elsewhere))],
  empty: [lying(0, 4_000, '')],
  'empty, old': [lying(0, 700_000, '')],
  torn: [lying(0, 4_000, TORN)],
  foreign: [lying(0, 700_000, '12345\n')],
  'dead guard': [lying(1, 3_000, guardOf(DEAD_PID))],
  'dead lock, dead guard': [lying(0, 3_000, stampOf(DEAD_PID, 3_000)), lying(1, 3_000, guardOf(DEAD_PID + 1))],
  'dead lock, two dead guards': [lying(0, 3_000, stampOf(DEAD_PID, 3_000)), lying(1, 3_000, guardOf(DEAD_PID + 1)), lying(2, 3_000, guardOf(DEAD_PID + 2))],
  'dead lock, empty guard': [lying(0, 7_000, stampOf(DEAD_PID, 7_000)), lying(1, 6_000, '')],
  'dead lock, old empty guard': [lying(0, 700_000, stampOf(DEAD_PID, 700_000)), lying(1, 700_000, '')],
  'dead lock, guard out of sight': [lying(0, 100_000, stampOf(DEAD_PID, 100_000)), lying(1, 100_000, guardOf(7, elsewhere))],
  'dead lock, young guard out of sight': [lying(0, 3_000, stampOf(DEAD_PID, 3_000)), lying(1, 3_000, guardOf(7, elsewhere))],
  'empty lock, dead guard': [lying(0, 700_000, ''), lying(1, 3_000, guardOf(DEAD_PID))],
} satisfies Record<string, Lying[]>

export type LyingName = keyof typeof LYING

const bystanders = new Map([[ALIVE_PID, alive(ALIVE_PID)]])

/** For how long nobody may take away what lies there, unless it has been watched: nobody looks twice within a second when time passes. */
const KEEPS: Partial<Record<LyingName, number>> = { foreign: Infinity, silent: Infinity, empty: 590_000, torn: 590_000, 'nearly expired': 5_000, 'out of sight, not yet expired': 5_000 }

// ---- who comes ----

const acquire: Operation = { do: 'acquire', ttlMs: TTL }
const patient: Operation = { do: 'acquire', ttlMs: TTL, tries: 2 }
const release: Operation = { do: 'release' }
const renew: Operation = { do: 'renew', optional: true, tries: 2 }
/** Once more when it was not done. */
const RENEW: Operation = { do: 'renew', tries: 2 }
const commit: Operation = { do: 'commit', tries: 2 }

export const SCRIPTS = {
  simple: [acquire, release],
  renewing: [acquire, renew, release],
  patient: [patient, release],
  working: [acquire, renew, commit, release],
} satisfies Record<string, Operation[]>

export function world(name: LyingName, scripts: Operation[][], jumps: JumpName[], more: Partial<World> & { watchedMs?: number } = {}): World {
  const files = LYING[name]
  const { watchedMs, ...rest } = more
  return {
    name,
    files,
    scripts: scripts.map((operations) => ({ operations, ...(watchedMs !== undefined && { watch: watching(files, watchedMs) }) })),
    bystanders,
    jumps: jumps.map((jump) => JUMPS[jump]),
    maxJumps: jumps.length > 0 ? 1 : 0,
    maxCrashes: 1,
    ...(watchedMs === undefined && KEEPS[name] !== undefined && { keepsMs: KEEPS[name] }),
    ...rest,
  }
}

/** Its TTL is longer than anything else. */
export const LONG: Operation[] = [{ do: 'acquire', ttlMs: 3_600_000 }, release]
/** Takes it and is gone. */
export const TAKING: Operation[] = [acquire]

/** Takes a lock whose TTL is final. */
export const FINAL: Operation[] = [{ do: 'acquire', ttlMs: TTL, renews: false }, release]

function holding(more: Partial<Stamp> = {}, ageMs = 5_000): { stamp: Stamp; file: Lying } {
  const stamp = stampOf(FIRST_PID, ageMs, { id: lockIdOf(0), renews: false, ...more })
  return { stamp, file: lying(0, ageMs, stamp) }
}

/** A, whose lease is about to be over, renews, also once more after a look; B has watched its lock for five seconds, and wants it. */
export function overdue(jumps: JumpName[] = ['moment'], more: Partial<World> = {}, trusting = false): World {
  const { stamp, file } = holding({ renews: true }, NEARLY_OVER)
  const operations: Operation[] = [{ do: 'renew' }, { do: 'look', trusting }, RENEW, release]
  return { ...world('free', [], jumps, { maxCrashes: 0 }), name: 'held by A, whose lease is about to be over', files: [file], scripts: [{ operations, holds: stamp }, { operations: SCRIPTS.simple, watch: watching([file], 5_000) }], maxJumps: jumps.length, ...more }
}

/** A, who has the lock, and B, who has its token, renew it (what renews B only looks at); C has watched it for five seconds, and wants it. */
export function sharing(jumps: JumpName[], more: Partial<Stamp> = {}, ageMs = 5_000): World {
  const { stamp, file } = holding(more, ageMs)
  const scripts: Script[] = [{ operations: [{ do: 'renew' }], holds: stamp, stays: true }, { operations: [{ do: 'renewShared', id: lockIdOf(0) }], stays: true }, { operations: TAKING, watch: watching([file], 5_000) }]
  return { ...world('free', [], jumps, { maxCrashes: 0 }), name: 'held by A, whose token B has, renewed by both', files: [file], scripts, maxJumps: jumps.length }
}

/** A holds, renews and releases; B wants the lock. */
export function holderAndTaker(jump: JumpName, more: Partial<World> = {}, renews = false, ageMs = 5_000): World {
  const { stamp, file } = holding({ renews }, ageMs)
  return { ...world('free', [], [jump], { maxCrashes: 0 }), name: 'held by A', files: [file], scripts: [{ operations: [RENEW, release], holds: stamp }, { operations: SCRIPTS.simple }], ...more }
}

/** A holds, and looks at its lock after one attempt to renew it. */
export function looking(jump: JumpName | undefined): World {
  const { stamp, file } = holding()
  const operations: Operation[] = [{ do: 'renew' }, { do: 'look' }, RENEW, release]
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 0 }), name: 'held by A, who looks', files: [file], scripts: [{ operations, holds: stamp }, { operations: SCRIPTS.simple }] }
}

/** A holds and commits, B wants the lock. */
export function committing(jump: JumpName | undefined, more: Partial<World> = {}): World {
  const { stamp, file } = holding()
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 1 }), name: 'A commits', files: [file], scripts: [{ operations: [commit, release], holds: stamp }, { operations: SCRIPTS.simple }], ...more }
}

/** A holds a detached lock and releases it, B renews it by the same token, C wants it. */
export function sharedToken(jump: JumpName | undefined): World {
  const { stamp, file } = holding({ processes: [] })
  const scripts: Script[] = [{ operations: [release], holds: stamp }, { operations: [{ do: 'renewShared', id: lockIdOf(0) }] }, { operations: SCRIPTS.simple }]
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 0 }), name: 'detached, its token used by A and B', files: [file], scripts }
}

/** A binds the lock that it holds to another process, and ends; B wants it. */
export function binding(pid: number, jump: JumpName | undefined, more: Partial<World> = {}): World {
  const { stamp, file } = holding({ renews: true })
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 1 }), name: `A binds its lock to process ${pid}`, files: [file], scripts: [{ operations: [{ do: 'bind', pid }], holds: stamp }, { operations: SCRIPTS.simple }], ...more }
}

/** A holds a detached lock, which a co-owner of its token on another machine has renewed, and renews it; B, on that machine, wants it. That started earlier. */
export function sharedAfar(jump: JumpName | undefined, more: Partial<World> = {}, operations: Operation[] = [RENEW, release], earlierMs = 1_800_000): World {
  const { stamp } = holding({ processes: [] })
  const file = lying(0, 2_000, { ...stamp, ...elsewhere, bootMs: BEGIN.boot + earlierMs - 2_000 })
  const there = (p: number): Machine => ({ ...machineOf(p, startOf(FIRST_PID + p)), ...elsewhere })
  const scripts: Script[] = [{ operations, holds: stamp }, { operations: SCRIPTS.simple }]
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 0 }), name: 'held by A, renewed from another machine, where B is', files: [file], scripts, machines: [machineOf(0, startOf(FIRST_PID)), there(1), there(2)], lags: [0, -earlierMs, -earlierMs], ...more }
}

/** The same, where A only looks, and the numbers of the other machine, which started a second earlier, might be its own; then the lease ends. */
export function lookingAfar(): World {
  return sharedAfar(undefined, { jumps: [together('8.5 s pass', 8_500)], maxJumps: 1 }, [{ do: 'look' }], 1_000)
}

/** A and B find the lock of a dead process. A may create its guard and be held up for six seconds before it writes it; B sees it all the while. */
export function watchedGuard(more: Partial<World> = {}): World {
  const watch: Watch = { seen: new Map([[pathOf(1), { what: `${BEGIN.fs} `, since: BEGIN.boot, last: BEGIN.boot + 5_500 }]]) }
  const scripts: Script[] = [{ operations: SCRIPTS.simple }, { operations: SCRIPTS.simple, watch }]
  return { ...world('dead', [], [], { maxCrashes: 0 }), name: 'dead, B has watched the guard of A', scripts, jumps: [together('six seconds pass', 6_000)], maxJumps: 1, ...more }
}

/** A has its lock and renews it, B has its token and tries to adopt it. */
export function adoptingAlive(jump: JumpName | undefined, more: Partial<World> = {}): World {
  const { stamp, file } = holding({ renews: true })
  const scripts: Script[] = [{ operations: [RENEW, release], holds: stamp }, { operations: [{ do: 'acquire', ttlMs: TTL, adopt: lockIdOf(0) }, release] }]
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 0 }), name: 'held by A, whose token B has', files: [file], scripts, ...more }
}

/** A dead lock whose token B still has: B adopts it, A takes it. */
export function adopting(jump: JumpName | undefined): World {
  const adopt: Operation = { do: 'acquire', ttlMs: TTL, adopt: hex(DEAD_PID, 16) }
  return { ...world('dead', [SCRIPTS.simple, [adopt, release]], jump ? [jump] : []), name: 'dead, adopted by B' }
}

/** A person breaks the lock that A holds and renews; C wants it. */
export function breaking(jump: JumpName | undefined): World {
  const { stamp, file } = holding({ renews: true })
  return { ...world('free', [], jump ? [jump] : [], { maxCrashes: 0 }), name: 'held by A, broken by B', files: [file], scripts: [{ operations: [{ do: 'renew' }, release], holds: stamp }, { operations: [{ do: 'break' }] }, { operations: SCRIPTS.simple }] }
}

/** A renews the lock that it holds, B removes it without looking at anything, C wants it. */
export function removing(does: 'renew' | 'renewShared'): World {
  const { stamp, file } = holding({ renews: does === 'renew' })
  const scripts: Script[] = [{ operations: [{ do: does }], holds: stamp }, { operations: [{ do: 'rm' }] }, { operations: SCRIPTS.simple }]
  return { ...world('free', [], [], { maxCrashes: 0 }), name: 'held by A, removed by B', files: [file], scripts }
}

/** Two that live on when they have done what they came for, and clean up what they could not at once. */
export function staying(name: LyingName, jumps: JumpName[], more: Partial<World> = {}): World {
  const { scripts, ...rest } = world(name, [SCRIPTS.simple, SCRIPTS.simple], jumps, { maxCrashes: 0, ...more })
  return { ...rest, name: `${name}, and they live on`, scripts: scripts.map((script) => ({ ...script, stays: true })) }
}

/** B sweeps, whatever another process does or holds. */
export function sweeping({ scripts, ...rest }: World): World {
  return { ...rest, name: `${rest.name}, B sweeps`, scripts: [scripts[0]!, { operations: [{ do: 'sweep' }] }] }
}

const containers = (count: number) => Array.from({ length: count + 1 }, (_, p) => ({ ...machineOf(p, startOf(FIRST_PID + p)), pidns: String(p), timens: String(p) }))

/** The same, where A, who holds, and the others are in containers of their own. */
export function inContainers({ scripts: [holder, ...others], ...rest }: World): World {
  const machines = containers(1 + others.length)
  const { boot, pidns, timens, host } = machines[0]!
  const holds = { ...holder!.holds!, boot, pidns, timens, host }
  return { ...rest, name: `${rest.name}, each in a container of its own`, machines, files: [lying(0, rest.files![0]!.ageMs, holds)], scripts: [{ ...holder!, holds }, ...others] }
}

/** The machine’s clock is set on by less than two seconds while A is inside its lease and B, in another container, wants its lock. */
export function nudged(): World {
  const nudge: Jump = { name: 'the machine’s time is set on by 1.9 s', boot: 0, wall: 1_900, fs: 1_900 }
  return inContainers(holderAndTaker('moment', { jumps: [nudge] }, true, NEARLY_OVER))
}

/** Every process in a container of its own: nobody sees whether another lives. Time passes in steps of less than half a minute. */
export function apart(name: LyingName, more: Partial<World> = {}): World {
  const each: World = { ...world(name, [TAKING, TAKING], ['pause'], { maxCrashes: 0 }), brisk: true, name: `${name}, every process in a container of its own`, machines: containers(2), maxJumps: 3, ...more }
  // From there, a holder that is silent cannot be seen to live.
  if (name === 'silent') delete each.keepsMs
  return each
}

/** A renews (or commits), by token and long after its lease, a lock that B in another container may take; B comes when A's guard is old. */
export function apartHolder(does: 'renewShared' | 'commit'): World {
  const stamp = stampOf(undefined, 200_000, { id: lockIdOf(0), renews: false, ttlMs: 100_000 })
  const files = [lying(0, 200_000, stamp)]
  const scripts: Script[] = [{ operations: [{ do: does }] }, { operations: TAKING }]
  return { ...world('free', [], ['pause'], { maxCrashes: 0 }), name: `${does} by A, B in another container`, files, scripts, machines: containers(2), maxJumps: 3, brisk: true, unreduced: true, beginning: 'AAAAAJAJAJ' }
}

export { ALIVE_PID, DEAD_PID }
