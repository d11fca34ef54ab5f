import { LockError } from './error.js'
import { ExitWatch } from './exit.js'
import { isDead } from './liveness.js'
import { machineError, refusalError } from './message.js'
import * as protocol from './protocol.js'
import { type Context, newWatch, type Refusal, type Watch } from './protocol.js'
import type { Place } from './resource.js'
import { isPid, MAX_PROCESSES, type ProcessStamp, type Stamp } from './stamp.js'
import { sleepSync, system } from './system.js'
import { show } from './text.js'
import { pollDelay } from './wait.js'

/** What somebody wants to hold. */
export interface Claim extends Place {
  detached: boolean
  token: string
  request: protocol.Request
  watch: Watch
  /** The boot clock when it was asked for. */
  started: number
  tell(type: 'waiting' | 'acquired' | 'refused' | 'lost' | 'released', facts: { holder?: Stamp | undefined; ms?: number }): void
}

const LOOK_MS = 1_000
const CHORES_MS = 100
/** How long `release` and `renew` try when the guard is busy: longer than it takes to watch a guard that never got its stamp. */
const PATIENCE_MS = 6_000

/** This copy of the package, in this thread. */
export const context: Context = { system, disowned: new Map() }
const holdings = new Set<Holding>()
/** Those of them that end with this process. */
let bound = 0

// ---- what runs beside the caller ----

const exitWatch = new ExitWatch(() => {
  for (const holding of [...holdings]) if (!holding.claim.detached) holding.releaseAtExit()
})

/** Tries once to get the lock. `again`: it was refused before, so a look comes first. */
export function obtain(claim: Claim, again: boolean): Holding | Refusal {
  const { lockFile, request, watch, detached } = claim
  const refusal = again ? protocol.wouldRefuse(context, lockFile, request, watch) : undefined
  if (refusal) return refusal
  // In place before the lock file is.
  if (!detached) exitWatch.arm()
  const result = protocol.acquire(context, lockFile, request, watch)
  return result.done ? new Holding(claim, result.stamp, result.recovered) : result
}

/** Sleeps without the event loop, and does what it would have done meanwhile: renews what is due, and ends on signals. */
export function sleepBlocking(ms: number): void {
  if (bound === 0) exitWatch.disarmNow()
  sleepSync(ms)
  for (const holding of [...holdings]) holding.tick()
}

// Nothing listens, and nothing ticks, that is not needed.
function rest(): void {
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
    rest()
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
  readonly claim: Claim
  #aborter: AbortController | undefined
  #loss: LockError | undefined
  readonly #timer: NodeJS.Timeout
  readonly #since: number

  constructor(claim: Claim, stamp: Stamp, recovered: Stamp | undefined) {
    this.claim = claim
    this.stamp = stamp
    this.recovered = recovered
    this.#since = stamp.bootMs!
    holdings.add(this)
    if (!claim.detached) bound++
    this.#timer = setInterval(() => this.tick(), Math.min(LOOK_MS, (stamp.ttlMs ?? Infinity) / 6)).unref()
    claim.tell('acquired', { holder: recovered, ms: this.#since - claim.started })
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
    throw this.#loss ?? new LockError('ECOMPROMISED', this.state === 'released' ? `the lock of ${this.claim.file} has been released` : `the lease of ${this.claim.file} is over; stop, and take the lock again`, { file: this.claim.file })
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
    if (this.state === 'held' && !this.claim.detached && this.#sinceRenewal() > 2 * (this.stamp.ttlMs ?? Infinity)) {
      protocol.disown(context, this.claim.request.id, this.claim.lockFile, 0)
      this.#lose('could not be confirmed for a whole TTL')
    }
  }

  /** Undefined when it is renewed, else who is in the way. Throws when it is lost. */
  tryRenew(): Refusal | undefined {
    this.#assertNotEnded()
    const { lockFile, request, watch } = this.claim
    return this.#take(fromMachine('renew', this.claim, () => protocol.renew(context, lockFile, request.id, watch)))
  }

  tryBind(process: ProcessStamp): Refusal | undefined {
    this.#assertNotEnded()
    const { lockFile, request, watch } = this.claim
    const add = (stamp: Stamp) => ({ ...stamp, processes: [...(stamp.processes ?? []), process] })
    return this.#take(fromMachine('bind', this.claim, () => protocol.confirm(context, lockFile, request.id, watch, add)))
  }

  /** True when it was released, false when it was no longer ours, a refusal when the guard is busy. */
  tryRelease(): boolean | Refusal {
    if (this.state !== 'held') return false
    const { lockFile, request, watch } = this.claim
    const result = fromMachine('release', this.claim, () => protocol.release(context, lockFile, request.id, watch))
    if (!result.done) return result
    if (result.released) this.#end('released')
    else this.#lose('is gone, or somebody else has it')
    return result.released
  }

  /** Leaves the file to the chores. */
  giveUp(): void {
    if (this.state !== 'held') return
    protocol.disown(context, this.claim.request.id, this.claim.lockFile, 0)
    this.#end('released')
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
    if ((this.stamp.processes?.length ?? 0) >= MAX_PROCESSES) throw new LockError('EINVAL', `a lock can be bound to ${MAX_PROCESSES} processes, not more`, { file: this.claim.file })
  }

  // Somebody with the token may have renewed it, or broken it.
  #look(): void {
    const stamp = protocol.look(context, this.claim.lockFile, this.claim.request.id)
    if (stamp === 'lost') this.#lose('is gone, or somebody else has it')
    else if (stamp) this.stamp = stamp
  }

  #sinceRenewal(): number {
    return system.clock().boot - this.stamp.bootMs!
  }

  #assertNotEnded(): void {
    if (this.state !== 'held') this.assertHeld()
  }

  #take(result: ReturnType<typeof protocol.renew>): Refusal | undefined {
    if (result === 'lost') {
      this.#lose('is gone, or somebody else has it')
      throw this.#loss
    }
    if (!result.done) return result
    this.stamp = result.stamp
    return undefined
  }

  #lose(how: string): void {
    const { file } = this.claim
    this.#loss = new LockError('ECOMPROMISED', `the lock of ${file} was lost: it ${how}`, { file })
    this.#end('lost')
    this.#aborter?.abort(this.#loss)
  }

  #end(state: 'released' | 'lost'): void {
    this.state = state
    clearInterval(this.#timer)
    holdings.delete(this)
    if (!this.claim.detached) bound--
    rest()
    this.claim.tell(state, { ms: system.clock().boot - this.#since })
  }
}

// ---- small things ----

/** Steps that try for six seconds while a guard is in the way; each yields how long to sleep. */
export function* patiently<T>(place: Place, action: () => T | Refusal): Generator<number, T> {
  const until = system.clock().boot + PATIENCE_MS
  for (let looks = 0; ; looks++) {
    const result = action()
    if (!isRefusal(result)) return result
    if (system.clock().boot >= until) throw refusalError(place, result, PATIENCE_MS)
    yield pollDelay(1, looks)
  }
}

/** Runs steps, sleeping without the event loop. */
export function runSync<T>(steps: Generator<number, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    sleepSync(step.value)
  }
}

/** Runs steps, sleeping on a timer. */
export async function run<T>(steps: Generator<number, T>): Promise<T> {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    await new Promise((resolve) => setTimeout(resolve, step.value))
  }
}

function isRefusal(result: unknown): result is Refusal {
  return typeof result === 'object' && result !== null && 'done' in result && result.done === false
}

/** A living process, for a stamp. Throws `EINVAL`. */
export function processOf(pid: unknown): ProcessStamp {
  if (!isPid(pid) || isDead(system, { pid }, true)) throw new LockError('EINVAL', `pid must be a living process, not ${show(pid)}`)
  return { pid, start: system.process(pid).start }
}

/** Turns the machine's errors into ours, and looks after what could not be cleaned up. */
export function fromMachine<T>(doing: string, place: Partial<Place>, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw machineError(doing, place, error)
  } finally {
    rest()
  }
}
