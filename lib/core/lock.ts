import { type Duration, toMs } from './duration.js'
import { LockError, systemCode } from './error.js'
import type { LockEvent } from './event.js'
import { asLockErrors, Holding, isHeldHere, obtain, sleepBlocking, type Wanted } from './holding.js'
import { processOf } from './lease.js'
import { refusalError } from './message.js'
import { newWatch, type Refusal } from './protocol.js'
import { locate } from './resource.js'
import { checkLabels, type Stamp } from './stamp.js'
import { dirname, fs, system } from './system.js'
import { show } from './text.js'
import { Doorbell, patiently, pollDelay, run, runSync } from './wait.js'

/** Options of {@link acquireLock}. */
export interface AcquireOptions {
  /** How long the lock is good for without renewal, at least 200 ms (4.4 s where there is no `/proc/uptime`). Default `'60s'`; detached and sync `'10m'`. `Infinity`: until it is released or its holder is dead. */
  ttl?: Duration
  /** Renew every third of the TTL while the process lives. Default true; false: the TTL is final. Detached and sync locks are not renewed. */
  renew?: boolean
  /** How long to wait for it. Default 0: refuse at once. `Infinity`: for ever. */
  wait?: Duration
  /** Stops the waiting: the promise is then rejected with the signal's reason. */
  signal?: AbortSignal
  /** A label for people, at most 120 bytes as JSON. Never an identity. */
  owner?: string
  /** Why, for people, at most 200 bytes as JSON. */
  reason?: string
  /** The lock outlives this process and is renewed and released by its token. Judged by its TTL alone. */
  detached?: boolean
  /** Binds a detached lock to a living process: it is stale as soon as that is dead. Implies `detached`. */
  pid?: number
  /** The token of a lock that was ours: granted, with a new token, when its process is dead or out of sight; refused while it lives. */
  token?: string
  /** Another path than `<file>.lock`. Let it end in `.lock`, or `sweepLocks` will not find it. */
  lockFile?: string
  /** Told what happens to the lock. Default: nobody. */
  onEvent?: (event: LockEvent) => void
}

// ---- acquiring ----

const MIN_TTL_GRANULES = 4
const OPTIONS = new Set<string>([
  'ttl',
  'renew',
  'wait',
  'signal',
  'owner',
  'reason',
  'detached',
  'pid',
  'token',
  'lockFile',
  'onEvent',
] satisfies (keyof AcquireOptions)[])

function plan(resource: string, options: AcquireOptions, sync: boolean): Wanted {
  checkOptions(options)
  const {
    renew = true,
    owner,
    reason,
    pid,
    detached = pid !== undefined,
    token: old,
    lockFile,
    onEvent,
    ttl = detached || sync ? '10m' : '60s',
    wait = 0,
  } = options
  const place = locate(resource, lockFile)
  checkLabels(owner, reason)
  const ttlMs = toMs(ttl, 'ttl')
  const shortest = MIN_TTL_GRANULES * system.machine().granularityMs
  if (ttlMs < shortest)
    throw new LockError('EINVAL', `ttl must be at least ${shortest} ms, the clocks are not finer, not ${ttlMs} ms`)
  if (pid !== undefined && !detached)
    throw new LockError('EINVAL', 'pid binds a detached lock; leave detached out, or make it true')
  if (old !== undefined && (typeof old !== 'string' || old === ''))
    throw new LockError('EINVAL', 'token must be the text that acquireLock gave')
  const token = system.token()
  const processes = detached ? (pid === undefined ? [] : [processOf(pid)]) : undefined
  const fields = { owner, reason, processes, ttlMs: ttlMs === Infinity ? undefined : ttlMs, renews: renew && !detached && !sync }
  const request = { id: system.id(token), adopt: old === undefined ? undefined : system.id(old), fields }
  const tell: Wanted['tell'] = (type, facts) => {
    try {
      const answer: unknown = onEvent?.({ type, file: place.file, lockFile: place.lockFile, owner, ...facts })
      if (answer instanceof Promise) answer.catch(() => {})
    } catch {
      // Whoever listens must not break the lock, and nothing may throw from a timer.
    }
  }
  const wanted: Wanted = { file: place.file, lockFile: place.lockFile, detached, token, request, tell, watch: newWatch(), waitMs: toMs(wait, 'wait'), started: system.clock().boot }
  if (place.given) wanted.given = true
  return wanted
}

function checkOptions(options: AcquireOptions): void {
  if (typeof options !== 'object' || options === null)
    throw new LockError('EINVAL', `options must be an object, not ${show(options)}`)
  const unknown = Object.keys(options).find((name) => !OPTIONS.has(name))
  if (unknown !== undefined)
    throw new LockError('EINVAL', `there is no option ${show(unknown)}; there are ${[...OPTIONS].join(', ')}`)
  for (const name of ['renew', 'detached'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'boolean')
      throw new LockError('EINVAL', `${name} must be true or false, not ${show(options[name])}`)
  }
  if (options.onEvent !== undefined && typeof options.onEvent !== 'function')
    throw new LockError('EINVAL', `onEvent must be a function, not ${show(options.onEvent)}`)
  if (options.signal !== undefined && typeof options.signal?.throwIfAborted !== 'function')
    throw new LockError('EINVAL', `signal must be an AbortSignal, not ${show(options.signal)}`)
}

function attempt(plan: Wanted, again: boolean): Holding | Refusal {
  return asLockErrors('take', plan, () => {
    try {
      return obtain(plan, again)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
      fs.mkdirSync(dirname(plan.lockFile), { recursive: true })
      return obtain(plan, again)
    }
  })
}

/**
 * Takes the lock of a file, of a part of it (`queue.md::head`) or of a free name (`name:deploy`). The file need not exist;
 * missing folders are created. Locks are not reentrant: another task of this process excludes itself like everybody else.
 *
 * Rejects with a {@link LockError}: `ELOCKED` when somebody else has it (at the end of `wait`), `EINVAL`, or the system's code; when
 * aborted, with the signal's reason.
 *
 * @example
 * const lock = await acquireLock('memory/queue.md', { owner: 'hourly', wait: '30s' })
 * try { lock.assertHeld() } finally { await lock.release() }
 */
export async function acquireLock(resource: string, options: AcquireOptions = {}): Promise<Lock> {
  const wanted = asLockErrors('lock', { file: show(resource) }, () => plan(resource, options, false))
  options.signal?.throwIfAborted()
  let doorbell: Doorbell | undefined
  try {
    for (let looks = 0; ; looks++) {
      const result = attempt(wanted, looks > 0)
      if (result instanceof Holding) return new Lock(result)
      const left = timeLeft(wanted, result)
      // The lock may have gone before we could watch: look once more at once.
      if (!doorbell) doorbell = startWaiting(wanted, result)
      else await doorbell.wait(Math.min(left, pollDelay(result.retryAfterMs ?? Infinity, looks)), options.signal)
      options.signal?.throwIfAborted()
    }
  } finally {
    doorbell?.close()
  }
}

/**
 * The same without the event loop: waiting sleeps, and renews the other locks of this process that are due. A lock that was taken
 * so is not renewed by itself; its TTL (default `'10m'`) is final. To wait for ever for a lock that this thread
 * holds itself is refused at once: nobody could release it meanwhile.
 *
 * @example
 * const lock = acquireLockSync('memory/queue.md')
 * try { lock.assertHeld() } finally { lock.release() }
 */
export function acquireLockSync(resource: string, options: AcquireOptions = {}): LockSync {
  const wanted = asLockErrors('lock', { file: show(resource) }, () => plan(resource, options, true))
  options.signal?.throwIfAborted()
  for (let looks = 0; ; looks++) {
    const result = attempt(wanted, looks > 0)
    if (result instanceof Holding) return new LockSync(result)
    const left = wanted.waitMs === Infinity && isHeldHere(result.stamp?.id) ? refuse(wanted, result) : timeLeft(wanted, result)
    if (looks === 0) wanted.tell('waiting', { holder: result.stamp })
    sleepBlocking(Math.min(left, pollDelay(result.retryAfterMs ?? Infinity, looks)))
  }
}

function timeLeft(plan: Wanted, refusal: Refusal): number {
  const waited = system.clock().boot - plan.started
  return waited < plan.waitMs ? plan.waitMs - waited : refuse(plan, refusal)
}

function refuse(plan: Wanted, refusal: Refusal): never {
  const waited = system.clock().boot - plan.started
  plan.tell('refused', { holder: refusal.stamp, ms: waited })
  throw refusalError(plan, refusal, plan.waitMs > 0 ? waited : 0)
}

function startWaiting(plan: Wanted, { stamp }: Refusal): Doorbell {
  plan.tell('waiting', { holder: stamp })
  return new Doorbell(plan.lockFile)
}

/**
 * Holds the lock while `fn(lock)` runs, and releases it in all cases. When the lock was lost meanwhile, the promise is rejected
 * with `ECOMPROMISED` even though `fn` returned: somebody else may have worked at the same time. When it cannot be released now (see
 * {@link Lock.release}), the result is given all the same, and `onEvent` is told `stuck`.
 *
 * @example
 * await withLock('memory/queue.md', { wait: '30s' }, async (lock) => { lock.assertHeld() })
 */
export async function withLock<T>(resource: string, fn: (lock: Lock) => T | Promise<T>): Promise<T>
export async function withLock<T>(resource: string, options: AcquireOptions, fn: (lock: Lock) => T | Promise<T>): Promise<T>
export async function withLock<T>(
  resource: string,
  ...rest: [(lock: Lock) => T | Promise<T>] | [AcquireOptions, (lock: Lock) => T | Promise<T>]
): Promise<T> {
  const fn = rest.length === 1 ? rest[0] : rest[1]
  if (typeof fn !== 'function') throw new LockError('EINVAL', 'withLock needs a function to run: withLock(resource, options, fn)')
  const lock = await acquireLock(resource, rest.length === 1 ? {} : rest[0])
  let result: T
  try {
    result = await fn(lock)
  } catch (error) {
    await lock.release().catch(() => {}) // the first error is the one to tell
    throw error
  }
  // Not a reason to lose the result, and to do the work again: the release goes on in the background.
  await lock.release().catch(() => {})
  lock.signal.throwIfAborted()
  return result
}

// ---- held ----

abstract class BaseLock {
  readonly #holding: Holding

  /** @internal */
  constructor(holding: Holding) {
    this.#holding = holding
  }

  /** @internal */
  protected get holding(): Holding {
    return this.#holding
  }

  /** The protected file: absolute, without links; or the free name. */
  get file(): string {
    return this.holding.wanted.file
  }

  get lockFile(): string {
    return this.holding.wanted.lockFile
  }

  /** The secret that renews and releases this lock, from any process. */
  get token(): string {
    return this.holding.wanted.token
  }

  /** The public half of the token, which the stamp shows. */
  get id(): string {
    return this.holding.wanted.request.id
  }

  /** A number that is never smaller than an earlier holder's, while the file system's clock does not go back. */
  get fence(): number {
    return this.holding.stamp.fence!
  }

  /** The stamp as it was last written. */
  get stamp(): Readonly<Stamp> {
    return this.holding.stamp
  }

  /**
   * The stamp of a holder that died or whose lease ended, whose lock this caller removed: its work may be half done. Not more than one
   * caller is told; when another was quicker to create the next lock, the one that removed the old one is told when its turn comes, if
   * it waits.
   */
  get recovered(): Readonly<Stamp> | undefined {
    return this.holding.recovered
  }

  /** Aborted when the lock is lost: somebody else has it, it is gone, or it could not be confirmed for another TTL. */
  get signal(): AbortSignal {
    return this.holding.signal
  }

  /** False from the moment our own clock says that the lease is over; true again if nobody took it and it was renewed. */
  get held(): boolean {
    return this.holding.held
  }

  /** Throws `ECOMPROMISED` unless the lock is held: call it before what cannot be undone. */
  assertHeld(): void {
    this.holding.assertHeld()
  }
}

/** A lock that is held. See {@link acquireLock}. */
export class Lock extends BaseLock {
  /** Makes the lease begin anew. Throws `ECOMPROMISED` when the lock is lost, `ELOCKED` when its guard stays busy for six seconds. */
  async renew(): Promise<void> {
    await run(patiently(this.holding.wanted, () => this.holding.tryRenew()))
  }

  /**
   * Gives the lock back: true, or false when it was no longer ours. Safe to call twice. When the guard stays busy for six
   * seconds (`ELOCKED`), or the machine refuses (its code), it is tried again in the background while the process lives.
   */
  async release(): Promise<boolean> {
    try {
      return await run(patiently(this.holding.wanted, () => this.holding.tryRelease()))
    } catch (error) {
      this.holding.giveUp()
      throw error
    }
  }

  /** Binds the lock to one more process (at most three): it is dead only when all of them are. Throws `EINVAL`, and as `renew`. */
  async bind(pid: number): Promise<void> {
    const process = processOf(pid)
    this.holding.checkRoom()
    await run(patiently(this.holding.wanted, () => this.holding.tryBind(process)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }
}

/** A lock that is held, for synchronous code. See {@link acquireLockSync}. */
export class LockSync extends BaseLock {
  /** As {@link Lock.renew}. */
  renew(): void {
    runSync(patiently(this.holding.wanted, () => this.holding.tryRenew()))
  }

  /** As {@link Lock.release}. */
  release(): boolean {
    try {
      return runSync(patiently(this.holding.wanted, () => this.holding.tryRelease()))
    } catch (error) {
      this.holding.giveUp()
      throw error
    }
  }

  /** As {@link Lock.bind}. */
  bind(pid: number): void {
    const process = processOf(pid)
    this.holding.checkRoom()
    runSync(patiently(this.holding.wanted, () => this.holding.tryBind(process)))
  }

  [Symbol.dispose](): void {
    this.release()
  }
}
