import type { Verdict } from './error.js'
import { systemCode } from './error.js'
import { liveness, sameBoot, sameClock } from './liveness.js'
import { decode, encode, type Decoded, type Stamp } from './stamp.js'
import type { Instant, Machine, System } from './system.js'

/*
 * The lock protocol. Three operations change anything at a lock: exclusive create, write through an own descriptor, unlink.
 *
 *                  create                       the holder's own release, or a stale holder: remove()
 *        free  ------------->  held  ------------------------------------------------------------------>  free
 *                              |  ^  renew: write into the file that says "mine"; THEN look at the clock
 *                              +--+  late: confirm under the guard
 *
 *   create(path)   open O_EXCL, write the stamp, close; whoever took longer than LATE (or a third of the TTL) has lost it
 *   remove(path)   create(path + '.guard'); read path; entitled? unlink(path); unlink the guard
 *
 *   acquire        create(L). It exists: held, refuse; stale, remove(L), and create(L) before letting go of the guard
 *   renew          open L, mine, and it renews? write through that descriptor; THEN: the path leads here, the lease was not over? else confirm
 *   confirm        under the guard: open L, mine? write
 *   renewShared    by token: confirm; but what renews is only read, under the guard, as its process alone writes to it
 *   commit         under the guard: read L, mine? do what cannot be undone (the guard is younger than half a minute)
 *   release        remove(L, "the id is mine")
 *   adopt          acquire, where "this id, and its process is not seen to live" counts as stale
 *   bind           confirm, with one more process
 *   stale          dead | TTL over, and out of sight or not renewing | TTL over, and watched, silent, for SILENT
 *                  | without a stamp, and watched for YOUNG, or older than OLD.   Foreign: never.   A guard: see judgeGuard
 *
 * - Judge under the guard: whatever was read before taking it is a rumour. Stale needs two equal readings, before and under it,
 *   and the clock is read between them.
 * - Every removal goes through the guard, the owner's own release too: one that overslept must not delete its successor's lock.
 * - Act, then look at the clock.
 * - An old guard is no guard: after half a minute its holder unlinks nothing any more; others may disbelieve it after a minute, if they
 *   cannot see its holder.
 * - A guard is itself removed by remove(), under a guard of its own. Each level costs one more process that died, or was held up for
 *   seconds, at the wrong moment; deeper than MAX_GUARDS is "guarded", until somebody sweeps.
 * - An inode number is never an identity, unless a descriptor holds the file.
 *
 * The code is synchronous, over the closed `System`, so that a model checker can run it.
 */

/** A creator that takes longer than this between open and write has lost; a short TTL makes it a third of that. */
const LATE_MS = 2_000
/** A file that somebody has himself watched without a stamp for this long has no creator that is still on time. */
const YOUNG_MS = 5_000
/** Without watching: how old an unstamped file must be. */
const OLD_MS = 600_000
/** A living holder that renews by itself must have been watched, silent, for this long after its TTL ran out. */
const SILENT_MS = 5_000
/** Watching is uninterrupted while the looks are at most this far apart. */
const WATCH_GAP_MS = 1_000
/** The holder of a guard believes in it for this long … */
const GUARD_MS = 30_000
/** … and others doubt it after this, when they cannot know anything about its holder. */
const GUARD_OUT_OF_SIGHT_MS = 60_000
/** What a file system's clock is off by: on one boot (coarse times), and between machines (caches, clock steps). */
const SLACK_SAME_BOOT_MS = 2_000
export const SLACK_MS = 60_000
/** A stamp that is further ahead of our boot clock than this was not written by that clock: a restored snapshot, a forgery. */
const AHEAD_MS = 1_000
/**
 * Guards of guards. `g` that were left behind and one more process that dies need `g + 2`, and a process that dies while it clears up
 * after having been late needs one more: found by search, for g up to 2, for late ones up to 1.
 */
export const MAX_GUARDS = 4
/** How often an attempt starts again because something changed under it. */
const TRIES = 8

export const GUARD_SUFFIX = '.guard'

/** What one process keeps for the protocol. */
export interface Context {
  system: System
  /** Files of ours that we could not remove yet, by id: for us they count as dead, and `cleanUp` tries again. `at`: when it was created, if that was on time. */
  disowned: Map<string, { path: string; level: number; at: Instant | undefined }>
}

/** What one caller has seen of a path while it waits. */
export interface Watch {
  /** Whose stale lock this caller removed. Somebody else may have been quicker to create the next: it is told when its turn comes. */
  recovered?: Stamp | undefined
  seen: Map<string, { what: string; since: number; last: number }>
  /** The file system's clock less the boot clock, as far as a guard has shown it. */
  fileClock?: number
  /** Goes one guard deeper than others, to remove the deepest that was left behind. */
  isClearing?: boolean
}

export const newWatch = (): Watch => ({ seen: new Map() })

export interface Judgement {
  verdict: Verdict
  stale: boolean
  why: string
  /** After this many milliseconds it may be otherwise. */
  retryAfterMs?: number
}

/** Why something was not done: somebody has the lock, or the guard over it. */
export interface Refusal extends Judgement {
  done: false
  path: string
  stamp: Stamp | undefined
}

export type Reading = { path: string; text: string; mtimeMs: number } & (Decoded | { kind: 'absent' })
type Done<T> = { done: true } & T
/** `changed`: what is there now is not what was to be removed. */
type Removal = Done<{ reading: Reading }> | Refusal | 'changed'
/** A lock that is ours: the public half of its token. */
type Mine = { path: string; id: string }
/** The path of the first lock that is not ours any more. */
type Lost = { lost: string }
/** `lost`: somebody else has it, or nobody. A refusal: no telling yet, the guard is busy. */
type Renewal = Done<{ stamp: Stamp }> | Refusal | 'lost'

// ---- the operations, in the order of a lock's life ----

export interface Request {
  /** The public half of the new token. */
  id: string
  /** The public half of a token whose lock may be taken over when its process is dead or out of sight. */
  adopt: string | undefined
  /** The holder's part of the stamp; identity, times and fence are the protocol's. */
  fields: Pick<Stamp, 'owner' | 'reason' | 'processes' | 'ttlMs' | 'renews'>
}

/** One attempt to get the lock: a dozen calls, never a wait. */
export function acquire(context: Context, path: string, request: Request, watch: Watch): Done<{ stamp: Stamp; recovered: Stamp | undefined }> | Refusal {
  const { id, adopt, fields } = request
  const take = () =>
    create(context, path, 0, (at, fd) =>
      Object.assign(newStamp(context.system, id, fields, at), { fence: Math.floor(context.system.stat(fd).mtimeMs * 1000) }),
    )
  const judge: Judge = (reading, fileClock) => {
    const judgement = judgeLock(context, reading, watch, fileClock)
    return mayAdopt(context, reading, adopt) ? { ...judgement, stale: true } : judgement
  }
  for (let tries = 0; tries < TRIES; tries++) {
    let created = take()
    if (created.kind === 'exists') {
      const rumour = read(context, path)
      if (rumour.kind === 'absent') continue
      // Whoever removes a lock takes it before it lets go of the guard: then it is mostly the next, and knows whom it follows.
      const removal = removeStale(context, path, 0, rumour, judge, watch, () => {
        watch.recovered = stampIn(rumour)
        created = take()
      })
      if (removal !== 'changed' && !removal.done) return removal
    }
    if (created.kind === 'created') return { done: true, stamp: created.stamp!, recovered: watch.recovered }
  }
  return inFlux(path)
}

/** Whether an attempt would be refused: one look, for who waits. */
export function wouldRefuse(context: Context, path: string, { adopt }: Request, watch: Watch): Refusal | undefined {
  const rumour = read(context, path)
  if (rumour.kind === 'absent') return undefined
  const judgement = judgeLock(context, rumour, watch)
  return judgement.stale || mayAdopt(context, rumour, adopt) ? undefined : refuse(rumour, judgement)
}

/**
 * Renews the own lock. After anything but `done`, only `confirm` may follow: the times in the file may be ours by then, and prove
 * nothing to us.
 */
export function renew(context: Context, path: string, id: string, watch: Watch): Renewal {
  const { system } = context
  const now = system.clock()
  const fd = openForWriting(system, path)
  if (fd === undefined) return 'lost'
  try {
    const { regular, mtimeMs: stoodSince } = system.stat(fd)
    const before = regular ? stampIn(decode(system.read(fd))) : undefined
    if (before?.id !== id) return 'lost'
    // Only its process writes to a lock that renews, so nobody's newer time is written over. Any other may have co-owners, perhaps with
    // another clock: they all write under the guard.
    if (before.renews) {
      const stamp = { ...before, ...times(now, before.ttlMs) }
      system.write(fd, encode(stamp))
      const written = system.stat(fd)
      // While the descriptor holds the file, no other file can have its identity.
      const leadsHere = system.lstat(path)?.identity === written.identity
      const inTime = leaseLeft(system, before) > 0 && written.mtimeMs - stoodSince < (before.ttlMs ?? Infinity)
      if (leadsHere && inTime) return { done: true, stamp }
    }
  } finally {
    system.close(fd)
  }
  return confirm(context, path, id, watch)
}

type Change = (stamp: Stamp, before: Stamp) => Stamp | undefined

/** Writes the lock's times anew while nobody can remove it. `change` may add to the stamp, veto with undefined, or give back `before`: then nothing is written. */
export function confirm(context: Context, path: string, id: string, watch: Watch, change: Change = (stamp) => stamp): Renewal {
  const { system } = context
  return underGuard<Renewal>(context, path, 0, watch, 'lost', (guard) => {
    const now = system.clock()
    const fd = openForWriting(system, path)
    if (fd === undefined) return 'lost'
    try {
      const before = system.stat(fd).regular ? stampIn(decode(system.read(fd))) : undefined
      // First it is said to be of here: what `change` binds it to is a process of here.
      const stamp = before?.id === id ? change(renewedStamp(system, before, now), before) : undefined
      if (!stamp) return 'lost'
      if (stamp !== before) system.write(fd, encode(stamp))
      if (system.lstat(path)?.identity !== system.stat(fd).identity) return 'lost'
      if (isOld(system, guard)) return tooOld(guard)
      // Without a boot id the time is of no use to others, and all that we have.
      return { done: true, stamp: stamp !== before && stamp.boot === undefined ? { ...stamp, bootMs: now.boot } : stamp }
    } finally {
      system.close(fd)
    }
  })
}

/**
 * Renews the lock for whoever has its token. One that renews is its process's own to write: it is read, under the guard, where nobody
 * is about to remove it; refused when that process is behind, and without the time when that is by another clock.
 */
export function renewShared(context: Context, path: string, id: string, watch: Watch): Renewal {
  const { system } = context
  const result = confirm(context, path, id, watch, (stamp, before) => {
    if (liveness(system, before) === 'dead') return undefined
    return before.renews ? before : stamp
  })
  if (result === 'lost' || !result.done || !result.stamp.renews) return result
  const { bootMs, ...stamp } = result.stamp
  if (!sameClock(system.machine(), stamp)) return { done: true, stamp }
  // Half written, it may be ahead of our clock.
  const isInTime = leaseLeft(system, result.stamp) > 0 && (bootMs ?? 0) <= system.clock().boot
  return isInTime ? result : { ...inFlux(path), stamp, verdict: 'silent', why: 'its process has not renewed it in time' }
}

/** Does what cannot be undone, such as rename(2), while nobody can take any of the locks from us. `act` must be short. */
export function commit<T>(context: Context, [lock, ...others]: Mine[], watch: Watch, act: () => T, guards: Guard[] = []): T | Refusal | Lost {
  if (!lock) {
    // The guards that were taken first may have grown old while the others were taken.
    const old = guards.find((guard) => isOld(context.system, guard))
    return old ? tooOld(old) : act()
  }
  const lost = { lost: lock.path }
  return underGuard<T | Refusal | Lost>(context, lock.path, 0, watch, lost, (guard) => {
    if (!isMine(read(context, lock.path), lock.id)) return lost
    return commit(context, others, watch, act, [...guards, guard])
  })
}

/** Removes the lock if it is still ours: false when it was not. */
export function release(context: Context, path: string, id: string, watch: Watch): Done<{ released: boolean }> | Refusal {
  const removal = remove(context, path, 0, (reading) => isMine(reading, id), watch)
  if (removal === 'changed') return { done: true, released: false }
  return removal.done ? { done: true, released: removal.reading.kind !== 'absent' } : removal
}

/** Removes what a person has looked at, whoever holds it: the exception to all rules. `changed`: it is not that any more. */
export function breakOpen(context: Context, path: string, seen: Reading, watch: Watch, level = 0): Removal {
  const id = stampIn(seen)?.id
  return remove(context, path, level, (again) => (id === undefined ? isSame(again, seen) : stampIn(again)?.id === id), watch)
}

/** Removes a lock, or a guard that was left behind, if it is stale. `level`: how many `.guard` its name ends in. */
export function sweep(context: Context, path: string, level: number, watch: Watch): Removal {
  const rumour = read(context, path)
  if (rumour.kind === 'absent') return { done: true, reading: rumour }
  const judge = level === 0 ? judgeLock : judgeGuard
  const clearing = { ...watch, isClearing: true }
  return removeStale(context, path, level, rumour, (reading, fileClock) => judge(context, reading, clearing, fileClock), clearing)
}

/** What is at a lock's or guard's path, without touching it: where the boot clock does not compare, by the wall clock, so for information only. */
export function inspect(context: Context, path: string, level = 0): { reading: Reading; judgement: Judgement } {
  const reading = read(context, path)
  const judge = level === 0 ? judgeLock : judgeGuard
  return { reading, judgement: judge(context, reading, newWatch(), context.system.clock().wall) }
}

/**
 * One quick look, for a holder that wants to know early whether it is still the one. Gives the stamp, which somebody with the token
 * may have renewed; undefined when it was written by another clock, or cannot be read now.
 */
export function look(context: Context, path: string, id: string): Stamp | undefined | 'lost' {
  const reading = read(context, path)
  if (reading.kind === 'absent') return 'lost'
  if (reading.kind !== 'stamp') return undefined
  if (reading.stamp.id !== id) return 'lost'
  const { bootMs = Infinity } = reading.stamp
  // Half written, or by a clock that was set back with the whole machine, it may be ahead of ours.
  return sameClock(context.system.machine(), reading.stamp) && bootMs <= context.system.clock().boot ? reading.stamp : undefined
}

/** Tries again to remove what is ours and could not be removed; throws the machine's first refusal. */
export function cleanUp(context: Context, watch: Watch): void {
  const stuck: { path: string; error: unknown }[] = []
  // The deepest first. While one stays, removing what is below it would only pile another guard upon it.
  for (const [id, { path }] of [...context.disowned].sort(([, a], [, b]) => b.level - a.level)) {
    if (stuck.some((deeper) => deeper.path.startsWith(path))) continue
    try {
      settle(context, id, watch)
    } catch (error) {
      stuck.push({ path, error })
    }
  }
  if (stuck[0]) throw stuck[0].error
}

/** What somebody writes who gets something now. */
export function newStamp(system: System, id: string, fields: Request['fields'], at: Instant): Stamp {
  return Object.assign(origin(system.machine(), id, fields, at), times(at, fields.ttlMs))
}

/** What a holder, or a co-owner of its token, writes in place of a stamp when its lease begins anew. */
export function renewedStamp(system: System, stamp: Stamp, at: Instant): Stamp {
  const here = system.machine()
  const renewed = { ...stamp, ...(stamp.processes?.length ? {} : place(here)), ...times(at, stamp.ttlMs) }
  // A co-owner elsewhere: its boot clock means nothing where the holder's processes are.
  if (!sameClock(here, renewed)) delete renewed.bootMs
  return renewed
}

/** Milliseconds for which the holder may believe in its lease; at 0 it is over. */
export function leaseLeft(system: System, stamp: Stamp): number {
  if (stamp.ttlMs === undefined) return Infinity
  if (stamp.bootMs === undefined) return 0
  return Math.max(0, stamp.bootMs + stamp.ttlMs - system.machine().granularityMs - system.clock().boot)
}

// ---- create ----

type Created = { kind: 'exists' } | { kind: 'late' } | { kind: 'created'; at: Instant; stamp: Stamp | undefined }

// Without a stamp only where a full disk leaves no room for the stamp of a guard.
function create(context: Context, path: string, level: number, describe: (at: Instant, fd: number) => Stamp): Created {
  const { system } = context
  const at = system.clock()
  let fd: number
  try {
    fd = system.create(path)
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return { kind: 'exists' }
    throw error
  }
  let stamp: Stamp | undefined
  try {
    try {
      stamp = describe(at, fd)
      system.write(fd, encode(stamp))
    } finally {
      system.close(fd)
    }
  } catch (error) {
    const onTime = elapsed(system, at) <= LATE_MS
    if (onTime && level > 0 && isFull(error)) return { kind: 'created', at, stamp: undefined }
    // On time it is certainly still ours; later, without a stamp, it is for whoever has watched it.
    const isGone = onTime && attempt(() => system.unlink(path))
    if (!isGone && stamp) disown(context, stamp.id!, path, level, onTime ? at : undefined)
    throw error
  }
  if (elapsed(system, at) <= Math.min(LATE_MS, (stamp.ttlMs ?? Infinity) / 3)) {
    // An earlier file with this id, that was late, is gone: this one is not to be cleaned up.
    context.disowned.delete(stamp.id!)
    return { kind: 'created', at, stamp }
  }
  disown(context, stamp.id!, path, level)
  settle(context, stamp.id!, newWatch())
  return { kind: 'late' }
}

// ---- remove ----

interface Guard {
  path: string
  level: number
  /** Before it was created. */
  at: Instant
  id: string
  /** The disk was too full for its stamp: it is believed for LATE only. */
  unstamped: boolean
}

type Judge = (reading: Reading, fileClock?: number) => Judgement

function remove(context: Context, path: string, level: number, entitled: (reading: Reading) => boolean, watch: Watch): Removal {
  return underGuard<Removal>(context, path, level, watch, { done: true, reading: absent(path) }, (guard) => unlinkIf(context, path, guard, entitled))
}

// Two equal readings with the judgement, and so the clock, between them: what was judged is what is unlinked, a renewal that is
// read torn is not stale, and a holder that writes after the second reading finds its lease over when it then looks at the clock.
function removeStale(context: Context, path: string, level: number, rumour: Reading, judge: Judge, watch: Watch, then = () => {}): Removal {
  const first = judge(rumour)
  if (!first.stale) return refuse(rumour, first)
  return underGuard<Removal>(context, path, level, watch, { done: true, reading: absent(path) }, (guard) => {
    // Whoever's guard it is by now: the file system's clock is not behind it.
    const fileClock = context.system.lstat(guard.path)?.mtimeMs ?? 0
    watch.fileClock = fileClock - guard.at.boot
    const judgement = judge(rumour, fileClock)
    if (!judgement.stale) return refuse(rumour, judgement)
    const removal = unlinkIf(context, path, guard, (again) => isSame(again, rumour))
    if (removal !== 'changed' && removal.done && removal.reading.kind !== 'absent') then()
    return removal
  })
}

function unlinkIf(context: Context, path: string, guard: Guard, entitled: (reading: Reading) => boolean): Removal {
  const reading = read(context, path)
  if (reading.kind === 'absent') return { done: true, reading }
  if (!entitled(reading)) return 'changed'
  if (isOld(context.system, guard)) return tooOld(guard)
  try {
    context.system.unlink(path)
  } catch (error) {
    // A person's rm, in this very moment.
    if (systemCode(error) !== 'ENOENT') throw error
  }
  return { done: true, reading }
}

// `gone`: the answer where even the folder is missing.
function underGuard<T>(context: Context, path: string, level: number, watch: Watch, gone: T, action: (guard: Guard) => T): T | Refusal {
  let guard: Guard | Refusal
  try {
    guard = takeGuard(context, path + GUARD_SUFFIX, level + 1, watch)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return gone
    throw error
  }
  if ('done' in guard) return guard
  try {
    return action(guard)
  } finally {
    dropGuard(context, guard)
  }
}

function takeGuard(context: Context, path: string, level: number, watch: Watch): Guard | Refusal {
  if (level > (watch.isClearing ? MAX_GUARDS + 1 : MAX_GUARDS)) {
    const remedy = watch.isClearing ? 'remove them by hand when nobody is at it' : 'lockpact sweep removes them'
    return { ...inFlux(path), why: `too many guards were left behind; ${remedy}` }
  }
  for (let tries = 0; tries < TRIES; tries++) {
    const id = context.system.token().replaceAll('-', '').slice(0, 16)
    const created = create(context, path, level, (at) => origin(context.system.machine(), id, {}, at))
    if (created.kind === 'created') {
      return { path, level, at: created.at, id, unstamped: !created.stamp }
    }
    if (created.kind === 'late') continue
    const rumour = read(context, path)
    if (rumour.kind === 'absent') continue
    const removal = removeStale(context, path, level, rumour, (reading, fileClock) => judgeGuard(context, reading, watch, fileClock), watch)
    if (removal !== 'changed' && !removal.done) return { ...removal, verdict: 'guarded' }
  }
  return inFlux(path)
}

function dropGuard(context: Context, guard: Guard): void {
  const { id, path, level, at } = guard
  if (!isOld(context.system, guard) && attempt(() => context.system.unlink(path))) return
  disown(context, id, path, level, at)
}

// An old guard is no guard: others may have stopped believing in it.
function isOld(system: System, { at, unstamped }: Guard): boolean {
  return elapsed(system, at) > (unstamped ? LATE_MS : GUARD_MS)
}

/** Gives a file of ours up: what is ours is cleaned by us, as often as it takes. */
export function disown(context: Context, id: string, path: string, level: number, at?: Instant): void {
  context.disowned.set(id, { path, level, at })
}

function settle(context: Context, id: string, watch: Watch): void {
  const { path, level, at } = context.disowned.get(id)!
  const mine = (reading: Reading) => isMine(reading, id)
  // A guard of ours that got its stamp on time, and that nobody may doubt yet (or ever: it is too deep), needs no other over it.
  if (level > 0 && at && (level > MAX_GUARDS || elapsed(context.system, at) <= GUARD_MS)) {
    if (mine(read(context, path))) context.system.unlink(path)
    context.disowned.delete(id)
    return
  }
  const removal = remove(context, path, level, mine, { ...watch, isClearing: true })
  if (removal === 'changed' || removal.done) context.disowned.delete(id)
}

// ---- judge ----

/** Whether a lock is stale; `fileClock`: now, by the clock that gave the reading its time. */
export function judgeLock(context: Context, reading: Reading, watch: Watch, fileClock?: number): Judgement {
  const now = context.system.clock().boot
  // Not known yet: a rumour that is good enough to look again under the guard, which shows the file system's clock.
  const age = (fileClock ?? now + (watch.fileClock ?? Infinity)) - reading.mtimeMs
  if (reading.kind !== 'stamp') return judgeUnstamped(reading, age, watch, now)
  const { stamp } = reading
  const life = context.disowned.has(stamp.id ?? '') ? 'dead' : liveness(context.system, stamp)
  if (life === 'dead') return { verdict: 'dead', stale: true, why: 'its process is dead' }
  const verdict = life === 'alive' ? 'alive' : 'out-of-sight'
  if (stamp.ttlMs === undefined) return { verdict, stale: false, why: 'it has no TTL' }
  const left = stamp.ttlMs - silentFor(context.system.machine(), stamp, now, age)
  if (left > 0) return { verdict, stale: false, why: 'its TTL runs', retryAfterMs: Math.ceil(left) }
  if (life === 'unknown' || !stamp.renews) return { verdict: 'expired', stale: true, why: 'its TTL has run out' }
  const watched = watchFor(watch, reading, now)
  if (watched >= SILENT_MS) return { verdict: 'silent', stale: true, why: 'its TTL has run out, and its process stays silent' }
  return { verdict: 'silent', stale: false, why: 'its TTL has run out, but its process lives', retryAfterMs: SILENT_MS - watched }
}

function judgeGuard(context: Context, reading: Reading, watch: Watch, fileClock?: number): Judgement {
  const { boot: now, wall } = context.system.clock()
  // Not known yet: only a guard that looks old by the wall clock, or so does the clock, is worth another one over it.
  const age = fileClock === undefined && watch.fileClock === undefined ? Math.abs(wall - reading.mtimeMs) : (fileClock ?? now + watch.fileClock!) - reading.mtimeMs
  if (reading.kind !== 'stamp') return judgeUnstamped(reading, age, watch, now)
  const life = context.disowned.has(reading.stamp.id ?? '') ? 'dead' : liveness(context.system, reading.stamp)
  if (life === 'dead') return { verdict: 'dead', stale: true, why: 'its process is dead' }
  if (life === 'alive') return { verdict: 'alive', stale: false, why: 'its process is at it', retryAfterMs: 1 }
  const left = GUARD_OUT_OF_SIGHT_MS - age
  return { verdict: 'out-of-sight', stale: left <= 0, why: 'its process is out of sight', retryAfterMs: Math.max(1, left) }
}

function judgeUnstamped(reading: Reading, age: number, watch: Watch, now: number): Judgement {
  if (reading.kind === 'foreign') return { verdict: 'foreign', stale: false, why: reading.why }
  const watched = watchFor(watch, reading, now)
  const stale = watched >= YOUNG_MS || age >= OLD_MS
  return { verdict: 'unstamped', stale, why: 'it is empty or torn', retryAfterMs: Math.max(1, YOUNG_MS - watched) }
}

// How long a lock has not been written: by the boot clock where that is one clock for both of us, else by the file system's own.
function silentFor(here: Machine, stamp: Stamp, now: number, age: number): number {
  const isComparable = stamp.bootMs !== undefined && stamp.bootMs <= now + AHEAD_MS && sameClock(here, stamp)
  if (isComparable) return now - stamp.bootMs!
  return age - (sameBoot(here, stamp) ? SLACK_SAME_BOOT_MS : SLACK_MS)
}

// How long this caller has watched the path without seeing it change, and without looking away.
function watchFor(watch: Watch, reading: Reading, now: number): number {
  const what = `${reading.mtimeMs} ${reading.text}`
  const seen = watch.seen.get(reading.path)
  const since = seen?.what === what && now - seen.last <= WATCH_GAP_MS ? seen.since : now
  watch.seen.set(reading.path, { what, since, last: now })
  return now - since
}

const isSame = (one: Reading, other: Reading) => one.text === other.text && one.mtimeMs === other.mtimeMs

// What we may not even read might be ours: that is for the caller to know.
function isMine(reading: Reading, id: string): boolean {
  if (reading.kind === 'foreign' && reading.cause !== undefined) throw reading.cause
  return stampIn(reading)?.id === id
}

function mayAdopt(context: Context, reading: Reading, id: string | undefined): boolean {
  const stamp = stampIn(reading)
  return id !== undefined && stamp?.id === id && liveness(context.system, stamp) !== 'alive'
}

// ---- read, and small things ----

function read({ system }: Context, path: string): Reading {
  const foreign = (why: string, cause?: unknown): Reading => ({ path, text: why, mtimeMs: 0, kind: 'foreign', why, cause })
  let fd: number
  try {
    fd = system.open(path, false)
  } catch (error) {
    const code = systemCode(error) ?? ''
    if (code === 'ENOENT') return absent(path)
    if (code === 'ELOOP' || code === 'EMLINK') return foreign('a symbolic link')
    if (code === 'EACCES' || code === 'EPERM') return foreign('unreadable for us', error)
    if (code === 'ENXIO' || code === 'EISDIR') return foreign('not a regular file')
    throw error
  }
  try {
    const { regular, mtimeMs } = system.stat(fd)
    if (!regular) return foreign('not a regular file')
    const text = system.read(fd)
    return { path, text, mtimeMs, ...decode(text) }
  } finally {
    system.close(fd)
  }
}

const absent = (path: string): Reading => ({ path, text: '', mtimeMs: 0, kind: 'absent' })

function openForWriting(system: System, path: string): number | undefined {
  try {
    return system.open(path, true)
  } catch (error) {
    // A link, a folder or a FIFO is not the file that we created.
    if (['ENOENT', 'ELOOP', 'EMLINK', 'EISDIR', 'ENXIO'].includes(systemCode(error) ?? '')) return undefined
    throw error
  }
}

function origin(here: Machine, id: string, fields: Request['fields'], at: Instant): Stamp {
  const { owner, reason, processes = here.self ? [here.self] : [], ttlMs, renews } = fields
  const { boot, pidns, timens, host } = here
  return { v: 1, id, owner, reason, processes, boot, pidns, timens, host, acquiredAt: iso(at.wall), renewedAt: undefined, expiresAt: undefined, ttlMs, renews }
}

function place({ boot, pidns, timens, host }: Machine): Pick<Stamp, 'boot' | 'pidns' | 'timens' | 'host'> {
  return { boot, pidns, timens, host }
}

function times(at: Instant, ttlMs: number | undefined): Pick<Stamp, 'renewedAt' | 'expiresAt' | 'bootMs'> {
  return { renewedAt: iso(at.wall), expiresAt: ttlMs === undefined ? undefined : iso(at.wall + ttlMs), bootMs: at.boot }
}

const iso = (wall: number) => new Date(Math.min(wall, 8.64e15)).toISOString()

function stampIn(decoded: Decoded | Reading): Stamp | undefined {
  return decoded.kind === 'stamp' ? decoded.stamp : undefined
}

// By either clock: a machine that was saved and restored may find only its wall clock moved.
function elapsed(system: System, since: Instant): number {
  const now = system.clock()
  return Math.max(now.boot - since.boot, now.wall - since.wall)
}

function refuse(reading: Reading, judgement: Judgement): Refusal {
  return { ...judgement, done: false, path: reading.path, stamp: stampIn(reading) }
}

function inFlux(path: string): Refusal {
  return { done: false, path, stamp: undefined, verdict: 'guarded', stale: false, why: 'it changes faster than we can look', retryAfterMs: 1 }
}

function tooOld(guard: Guard): Refusal {
  return { ...inFlux(guard.path), why: 'we were held up for too long' }
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')
}

function attempt(call: () => void): boolean {
  try {
    call()
    return true
  } catch {
    return false
  }
}
