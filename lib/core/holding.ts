import { LockError } from './error.js'
import type { LockEvent } from './event.js'
import { ExitWatch } from './exit.js'
import { machineError } from './message.js'
import * as protocol from './protocol.js'
import { type Context, newWatch, type Refusal, type Watch } from './protocol.js'
import type { Place } from './resource.js'
import { MAX_PROCESSES, type ProcessStamp, type Stamp } from './stamp.js'
import { sleepSync, system } from './system.js'

/** What somebody wants to hold. */
export interface Wanted extends Place {
  detached: boolean
  token: string
  request: protocol.Request
  watch: Watch
  waitMs: number
  /** The boot clock when it was asked for. */
  started: number
  tell(type: LockEvent['type'], facts: { holder?: Stamp | undefined; ms?: number }): void
}

const LOOK_MS = 1_000
const CHORES_MS = 100

/** This copy of the package, in this thread. */
export const context: Context = { system, disowned: new Map() }
const holdings = new Set<Holding>()
/** Those of them that end with this process. */
let bound = 0

// ---- what runs beside the caller ----

const exitWatch = new ExitWatch(() => {
  for (const holding of [...holdings]) if (!holding.wanted.detached) holding.releaseAtExit()
})

/** Tries once to get the lock. `again`: it was refused before, so a look comes first. */
export function obtain(wanted: Wanted, again: boolean): Holding | Refusal {
  const { lockFile, request, watch, detached } = wanted
  const refusal = again ? protocol.wouldRefuse(context, lockFile, request, watch) : undefined
  if (refusal) return refusal
  // In place before the lock file is.
  if (!detached) exitWatch.arm()
  const result = protocol.acquire(context, lockFile, request, watch)
  return result.done ? new Holding(wanted, result.stamp, result.recovered) : result
}

/**
 * Sleeps without the event loop, and does what it would have done: renews what is due. A signal ends the process as if nobody listened;
 * what it holds is then recovered from.
 */
export function sleepBlocking(ms: number): void {
  exitWatch.disarmNow()
  sleepSync(ms)
  if (bound > 0) exitWatch.arm()
  for (const holding of [...holdings]) holding.tick()
}

/** Whether this thread holds the lock with this id, and ends it by itself. */
export function isHeldHere(id: string | undefined): boolean {
  return [...holdings].some(({ wanted }) => wanted.request.id === id && !wanted.detached)
}

// Nothing listens that is not needed; what could not be cleaned up is tried again.
function standDown(): void {
  if (bound === 0) exitWatch.disarm()
  if (context.disowned.size > 0) doChoresSoon()
}

let chores: NodeJS.Timeout | undefined
const choresWatch = newWatch()

function doChoresSoon(): void {
  chores ??= setTimeout(() => {
    chores = undefined
    try {
      protocol.cleanUp(context, choresWatch)
    } catch {
      // The machine refuses for now; the next round may do better.
    }
    standDown()
  }, CHORES_MS).unref()
}

// ---- one lock that is held ----

/*
 *    held ---- release() ----> released
 *      \------ tick(), renew(): it is another's, or gone, or not confirmed for another TTL ----> lost
 */
export class Holding {
  readonly recovered: Stamp | undefined
  stamp: Stamp
  state: 'held' | 'released' | 'lost' = 'held'
  readonly wanted: Wanted
  #aborter: AbortController | undefined
  #loss: LockError | undefined
  #isUnconfirmed = false
  readonly #timer: NodeJS.Timeout
  readonly #since: number

  constructor(wanted: Wanted, stamp: Stamp, recovered: Stamp | undefined) {
    this.wanted = wanted
    this.stamp = stamp
    this.recovered = recovered
    this.#since = stamp.bootMs!
    holdings.add(this)
    if (!wanted.detached) bound++
    this.#timer = setInterval(() => this.tick(), Math.min(LOOK_MS, (stamp.ttlMs ?? Infinity) / 6)).unref()
    wanted.tell('acquired', { holder: recovered, ms: this.#since - wanted.started })
  }

  get held(): boolean {
    return this.state === 'held' && protocol.leaseLeft(system, this.stamp) > 0
  }

  get signal(): AbortSignal {
    this.#aborter ??= new AbortController()
    if (this.#loss) this.#aborter.abort(this.#loss)
    return this.#aborter.signal
  }

  assertHeld(): void {
    if (this.held) return
    const { file } = this.wanted
    const how =
      this.state === 'released'
        ? `the lock of ${file} has been released`
        : `the lease of ${file} is over; stop, and take the lock again`
    throw this.#loss ?? new LockError('ECOMPROMISED', how, { file })
  }

  /** Looks at the lock, renews it when that is due. Never throws. */
  tick(): void {
    if (this.state !== 'held') return
    try {
      const { ttlMs, renews } = this.stamp
      if (renews && ttlMs !== undefined && this.#sinceRenewal() >= ttlMs / 3) this.tryRenew()
      else this.#look()
    } catch {
      // The machine refuses for now; the lease runs on by the clock.
    }
    // A detached lock is its token's: whoever has that may still renew it, when nobody took it.
    if (this.state === 'held' && !this.wanted.detached && this.#sinceRenewal() > 2 * (this.stamp.ttlMs ?? Infinity)) {
      // Any other may have been renewed by its token.
      if (this.stamp.renews) protocol.disown(context, this.wanted.request.id, this.wanted.lockFile, 0)
      this.#lose('could not be confirmed for a whole TTL')
    }
  }

  /** Undefined when it is renewed, else who is in the way. Throws when it is lost. */
  tryRenew(): Refusal | undefined {
    const { lockFile, request, watch } = this.wanted
    const call = this.#isUnconfirmed ? protocol.confirm : protocol.renew
    return this.#rewrite('renew', () => call(context, lockFile, request.id, watch))
  }

  tryBind(process: ProcessStamp): Refusal | undefined {
    const { lockFile, request, watch } = this.wanted
    const add = (stamp: Stamp) => ({ ...stamp, processes: [...(stamp.processes ?? []).filter(({ pid }) => pid !== process.pid), process] })
    return this.#rewrite('bind', () => protocol.confirm(context, lockFile, request.id, watch, add))
  }

  /** True when it was released, false when it was no longer ours, a refusal when the guard is busy. */
  tryRelease(): boolean | Refusal {
    if (this.state !== 'held') return false
    const { lockFile, request, watch } = this.wanted
    const result = asLockErrors('release', this.wanted, () => protocol.release(context, lockFile, request.id, watch))
    if (!result.done) return result
    if (result.released) this.#end('released')
    else this.#lose('is gone, or somebody else has it')
    return result.released
  }

  /** Leaves the file to the chores. */
  giveUp(): void {
    if (this.state !== 'held') return
    protocol.disown(context, this.wanted.request.id, this.wanted.lockFile, 0)
    this.#end('released', 'stuck')
  }

  /** Leaves a detached lock to whoever has its token: this process does not look at it any more. */
  leave(): void {
    this.state = 'released'
    clearInterval(this.#timer)
    holdings.delete(this)
  }

  releaseAtExit(): void {
    for (let tries = 0; tries < 20; tries++) {
      try {
        if (typeof this.tryRelease() === 'boolean') return
        sleepSync(2)
      } catch {
        return // the process ends: whoever comes next finds its holder dead
      }
    }
  }

  checkRoom(): void {
    if ((this.stamp.processes?.length ?? 0) < MAX_PROCESSES) return
    throw new LockError('EINVAL', `a lock can be bound to ${MAX_PROCESSES} processes, not more`, { file: this.wanted.file })
  }

  // Somebody with the token may have renewed it, or broken it.
  #look(): void {
    const stamp = protocol.look(context, this.wanted.lockFile, this.wanted.request.id)
    if (stamp === 'lost') this.#lose('is gone, or somebody else has it')
    else if (stamp && !this.#isUnconfirmed) this.stamp = stamp
  }

  #sinceRenewal(): number {
    return system.clock().boot - this.stamp.bootMs!
  }

  #assertNotEnded(): void {
    if (this.state !== 'held') this.assertHeld()
  }

  // Until it is done, the file may already have our new times, which nobody has to respect: then they are no proof, not even to us.
  #rewrite(doing: string, call: () => ReturnType<typeof protocol.renew>): Refusal | undefined {
    this.#assertNotEnded()
    this.#isUnconfirmed = true
    const result = asLockErrors(doing, this.wanted, call)
    if (result === 'lost') {
      this.#lose('is gone, or somebody else has it')
      throw this.#loss
    }
    if (!result.done) return result
    this.#isUnconfirmed = false
    this.stamp = result.stamp
    return undefined
  }

  #lose(how: string): void {
    const { file } = this.wanted
    this.#loss = new LockError('ECOMPROMISED', `the lock of ${file} was lost: it ${how}`, { file })
    this.#end('lost')
    this.#aborter?.abort(this.#loss)
  }

  #end(state: 'released' | 'lost', type: LockEvent['type'] = state): void {
    this.state = state
    clearInterval(this.#timer)
    holdings.delete(this)
    if (!this.wanted.detached) bound--
    standDown()
    this.wanted.tell(type, { ms: system.clock().boot - this.#since })
  }
}

// ---- small things ----

/** Calls something that touches the machine: turns its errors into ours, and stands down afterwards. */
export function asLockErrors<T>(doing: string, place: Partial<Place>, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw machineError(doing, place, error)
  } finally {
    standDown()
  }
}
