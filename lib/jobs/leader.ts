import { acquireLock, type AcquireOptions, Doorbell, type Duration, inspectLock, isLockError, type Lock, LockError, type LockEvent, show, type Stamp } from '../core/index.js'

/** Options of {@link electLeader}. */
export interface ElectionOptions {
  /** A label for people. */
  owner?: string | undefined
  /** How long the lease is good for without renewal; it is renewed every third of that. Default `'15s'`. */
  ttl?: Duration | undefined
  /** The token of a lease that was ours, before this session was resumed: adopted when its process is dead or out of sight. */
  token?: string | undefined
  /** Ends the candidacy: as {@link Election.resign}. */
  signal?: AbortSignal | undefined
  /** Another path than `<file>.lock`. */
  lockFile?: string | undefined
  /**
   * We lead, until `signal` aborts. When it gives a promise, that is the leader's work: we do not hand over, nor stand again, before it has
   * ended. What it throws ends the candidacy, see {@link Election.ended}.
   */
  onElected: (lock: Lock, signal: AbortSignal) => void | Promise<void>
  /** We led, and do not any more: told after `signal`, before we are a candidate again. Not called when we resign. */
  onLost: (reason: LockError) => void
  /** Somebody else leads: once for each leader. */
  onPassive?: ((leader: Stamp) => void) | undefined
  /** The machine refuses (no space, no permission, …); it is tried again every second. */
  onError?: ((error: LockError) => void) | undefined
  /** Told what happens to the lock. */
  onEvent?: ((event: LockEvent) => void) | undefined
}

/** A candidacy, see {@link electLeader}. */
export interface Election {
  /** Whether we lead, by our own clock: ask before each thing that only a leader may do. */
  readonly leading: boolean
  /** The lease, while we lead. Its `token` is what a resumed session adopts it by. */
  readonly lock: Lock | undefined
  /** Hands over at once, and ends the candidacy. */
  resign(): Promise<void>
  /** Resolves when the candidacy has ended and nothing is held any more; rejects with what a listener threw. */
  readonly ended: Promise<void>
}

const DEFAULT_TTL = '15s'
const LOOK_MS = 1_000

/**
 * One leader among many processes: whoever holds the lock of `file` leads, the others stay passive and follow within a tenth of a second
 * when it is released or its process dies, or within the TTL and 5 s when it lives but has fallen silent. When the process exits, it hands
 * over.
 *
 * Resolves after the first look, leading or passive. Rejects with `EINVAL`, or the system's code.
 *
 * A process that was suspended is told as soon as it goes on, but not before its other timers: ask `leading`, or `lock.assertHeld()`,
 * before each thing that only the leader may do.
 *
 * @example
 * let timer
 * const election = await electLeader('memory/scheduler', {
 *   owner: 'session-1',
 *   onElected: (lock) => { timer = setInterval(() => { if (lock.held) console.log('tick') }, 1000) },
 *   onLost: () => clearInterval(timer),
 * })
 * await election.resign()
 */
export async function electLeader(file: string, options: ElectionOptions): Promise<Election> {
  for (const name of ['onElected', 'onLost'] as const)
    if (typeof options?.[name] !== 'function') throw new LockError('EINVAL', `electLeader needs the function ${name}, not ${show(options?.[name])}`)
  const candidacy = new Candidacy(file, options)
  await candidacy.begin()
  return candidacy
}

/*
 *     passive --- the lock is ours ---> leading --- resign() ---> ended
 *        \<------- it is not -------------/
 */
class Candidacy implements Election {
  readonly #file: string
  readonly #options: ElectionOptions
  readonly #over = new AbortController()
  #lock: Lock | undefined
  #ended: Promise<void> | undefined
  /** Whom we have told of. */
  #told: string | undefined

  constructor(file: string, options: ElectionOptions) {
    this.#file = file
    this.#options = options
  }

  get leading(): boolean {
    return this.#lock?.held ?? false
  }

  get lock(): Lock | undefined {
    return this.#lock
  }

  get ended(): Promise<void> {
    return this.#ended!
  }

  async resign(): Promise<void> {
    this.#over.abort()
    await this.#ended
  }

  /** The first look; the rest goes on beside the caller. */
  async begin(): Promise<void> {
    const { signal, token } = this.#options
    signal?.throwIfAborted()
    let first: Lock | undefined
    try {
      first = await acquireLock(this.#file, this.#lockOptions({ wait: 0, token }))
    } catch (error) {
      if (!isLockError(error) || error.code !== 'ELOCKED') throw error
      this.#tellOf(error.holder)
    }
    const abort = () => this.#over.abort()
    signal?.addEventListener('abort', abort, { once: true })
    if (signal?.aborted) abort()
    this.#ended = this.#stand(first).finally(() => signal?.removeEventListener('abort', abort))
  }

  async #stand(first: Lock | undefined): Promise<void> {
    const { signal } = this.#over
    let lock = first
    let token = this.#options.token
    while (!signal.aborted) {
      lock ??= await this.#follow(token)
      if (!lock) continue
      token = undefined
      await this.#lead(lock)
      lock = undefined
    }
    await lock?.release().catch(() => {})
  }

  // ---- passive ----

  /** Waits until it is our turn; undefined when the candidacy has ended, or the machine refused. */
  async #follow(token: string | undefined): Promise<Lock | undefined> {
    const stop = new AbortController()
    const watching = this.#watch(stop.signal)
    try {
      return await acquireLock(this.#file, this.#lockOptions({ wait: Infinity, signal: this.#over.signal, token }))
    } catch (error) {
      if (this.#over.signal.aborted) return undefined
      if (!isLockError(error)) throw error
      quietly(() => this.#options.onError?.(error))
      await pause(LOOK_MS, this.#over.signal)
      return undefined
    } finally {
      stop.abort()
      await watching
    }
  }

  /** Looks who leads, when that changes. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { onPassive, lockFile } = this.#options
    if (!onPassive) return
    const at = lockFile === undefined ? {} : { lockFile }
    let doorbell: Doorbell | undefined
    try {
      while (!signal.aborted) {
        const { lockFile: path, state, stamp } = inspectLock(this.#file, at)
        doorbell ??= new Doorbell(path)
        if (state === 'held') this.#tellOf(stamp)
        await doorbell.wait(LOOK_MS, signal)
      }
    } catch {
      // The other one, who waits for the lock, says it.
    } finally {
      doorbell?.close()
    }
  }

  #tellOf(leader: Stamp | undefined): void {
    if (!leader || leader.id === this.#told) return
    this.#told = leader.id
    quietly(() => this.#options.onPassive?.(leader))
  }

  // ---- leading ----

  async #lead(lock: Lock): Promise<void> {
    const { onElected, onLost } = this.#options
    const leadership = new AbortController()
    this.#lock = lock
    this.#told = lock.id
    try {
      const work = Promise.resolve(onElected(lock, leadership.signal))
      const reason = await Promise.race([lossOf(lock, this.#over.signal), work.then(() => new Promise<never>(() => {}))])
      this.#lock = undefined
      leadership.abort(reason)
      if (reason) onLost(reason)
      await work
    } finally {
      this.#lock = undefined
      leadership.abort()
      await lock.release().catch(() => {})
    }
  }

  #lockOptions(more: { wait: number; signal?: AbortSignal; token: string | undefined }): AcquireOptions {
    const { owner, ttl = DEFAULT_TTL, lockFile, onEvent } = this.#options
    const { wait, signal, token } = more
    return { ttl, wait, reason: 'to lead', ...(owner !== undefined && { owner }), ...(lockFile !== undefined && { lockFile }), ...(onEvent && { onEvent }), ...(signal && { signal }), ...(token !== undefined && { token }) }
  }
}

/** Waits until the lease is over: why, or undefined when the candidacy has ended. */
function lossOf(lock: Lock, over: AbortSignal): Promise<LockError | undefined> {
  return new Promise((resolve) => {
    const end = (reason: LockError | undefined) => {
      clearInterval(timer)
      lock.signal.removeEventListener('abort', onLost)
      over.removeEventListener('abort', onOver)
      resolve(reason)
    }
    const onLost = () => end(lock.signal.reason as LockError)
    const onOver = () => end(undefined)
    // Overdue by our own clock, nobody has to respect it: it is renewed in this step, or we do not lead any more.
    const look = () => {
      if (lock.held) return
      lock.renew().catch(() => {})
      if (!lock.held) end(new LockError('ECOMPROMISED', `the lease of ${lock.file} is over, and could not be renewed`, { file: lock.file }))
    }
    const timer = setInterval(look, Math.min(LOOK_MS, (lock.stamp.ttlMs ?? Infinity) / 6)).unref()
    lock.signal.addEventListener('abort', onLost)
    over.addEventListener('abort', onOver)
    if (lock.signal.aborted) onLost()
    else if (over.aborted) onOver()
  })
}

// Words for people are not worth a candidacy.
function quietly(call: () => unknown): void {
  try {
    call()
  } catch {
    // What a listener throws is its own affair.
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
