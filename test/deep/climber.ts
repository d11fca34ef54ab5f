/*
 * One process of a ladder: takes a lock, does some steps, and in the last of them strikes itself before or after its n-th call at the
 * lock or its guards. Bundled and started by `rung.ts`; prints what happens.
 */
import type { Lock, LockEvent, Stamp } from 'lockpact'
import { leaseEnd, newSpan, now, observe } from './observe.js'

export type Step = 'acquire' | 'renew' | 'oversleep' | 'release'

export interface Climb {
  dist: string
  file: string
  steps: Step[]
  ttl: number
  renew: boolean
  /** Absent, nobody strikes: strace does. */
  strike?: Strike
}

export interface Strike {
  call: number
  when: 'before' | 'after'
  signal: 'SIGKILL' | 'SIGSTOP'
}

/** Longer than anybody who waits looks away. */
const LOOK_MS = 120

type Call = (...args: unknown[]) => unknown
const { dist, file, steps, ttl, renew, strike } = JSON.parse(process.argv[2]!) as Climb
const fs = process.getBuiltinModule('node:fs') as unknown as Record<string, Call>
const { writeSync } = process.getBuiltinModule('node:fs')
const { O_EXCL } = process.getBuiltinModule('node:fs').constants
const say = (line: string) => writeSync(1, `${line}\n`)
const sleepSync = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

// Under strace only we know.
say(`pid ${process.pid}`)

let isArmed = false
let calls = 0
/** Open at the lock or its guards: their paths. */
const paths = new Map<unknown, string>()
let lock: Lock | undefined

// Said at once: a climber that is killed makes no report. Until 0: it is given back.
const claim = (until: number) => say(`lease ${now()} ${until}`)

// The built package calls node:fs through the module's object. All of it: a call that the seam gets one day is struck too.
for (const [name, call] of Object.entries(fs).filter(([name]) => name.endsWith('Sync'))) {
  const struck: Call = (...args) => {
    const path = paths.get(args[0]) ?? args.find((each) => typeof each === 'string' && each.startsWith(`${file}.lock`))
    if (typeof path !== 'string') return call(...args)
    const number = isArmed ? ++calls : 0
    // Slowly, that the contender gets between.
    sleepSync(1)
    strikeIf(number, 'before', name)
    if (name === 'closeSync') paths.delete(args[0])
    if (name === 'unlinkSync' && path === `${file}.lock`) claim(0)
    try {
      const result = call(...args)
      if (name === 'openSync') paths.set(result, path)
      if (name === 'openSync' && Number(args[1]) & O_EXCL) say('created')
      if (name === 'writeSync' && path === `${file}.lock` && !lock) claim(leaseEnd(JSON.parse(String(args[1])) as Stamp))
      return result
    } finally {
      strikeIf(number, 'after', name)
    }
  }
  fs[name] = Object.assign(struck, call)
}

function strikeIf(call: number, when: 'before' | 'after', name: string): void {
  if (!strike || strike.call !== call || strike.when !== when) return
  // Before it dies the contender has looked at what there is by now, and was refused.
  if (strike.signal === 'SIGKILL') sleepSync(LOOK_MS)
  say(`struck ${when} ${name}`)
  process.kill(process.pid, strike.signal)
}

const span = newSpan()
// Under strace a look at the file would be one more call to be struck at.
const look = () => lock && observe(lock, span, strike !== undefined)
const { acquireLock, isLockError } = (await import(dist)) as typeof import('lockpact')

// Who waits looks again and again: a ladder of those calls would have no top.
const onEvent = ({ type }: LockEvent) => type === 'waiting' && (isArmed = false)
const take: Record<Step, () => unknown> = {
  acquire: async () => (lock = await acquireLock(file, { ttl, renew, wait: 30_000, owner: 'climber', onEvent })),
  renew: () => lock!.renew(),
  oversleep: () => sleepSync(ttl + 60),
  release: () => lock!.release(),
}

async function climb(): Promise<string> {
  try {
    for (const [index, step] of steps.entries()) {
      look()
      isArmed = index === steps.length - 1
      // `release` says false when the lock was not there any more.
      if ((await take[step]()) === false) return 'lost'
      look()
      isArmed = false
      if (lock?.held) claim(leaseEnd(lock.stamp))
      // Without the event loop: nothing renews meanwhile.
      if (index < steps.length - 1) sleepSync(20)
    }
    return 'done'
  } catch (error) {
    if (!isLockError(error)) throw error
    return error.code
  } finally {
    isArmed = false
  }
}

const outcome = await climb()
// A stopped climber looks on after it woke.
for (let looks = 40; looks > 0; looks--) {
  look()
  await new Promise((resolve) => setTimeout(resolve, 5))
}
const held = lock?.held ?? false
const released = await lock?.release()
say(`report ${JSON.stringify({ outcome, held, released, span })}`)
