/*
 * One process of a ladder: takes a lock, does some steps, and in the last of them strikes itself before or after its n-th call at the
 * lock or its guards. Bundled and started by `rung.ts`; prints what happens.
 */
import type { Lock } from 'lockpact'
import { newSpan, observe } from './observe.js'

export type Step = 'acquire' | 'renew' | 'oversleep' | 'release'

export interface Climb {
  dist: string
  file: string
  steps: Step[]
  ttl: number
  renew: boolean
  /** Nobody strikes when it is absent. */
  strike?: { call: number; when: 'before' | 'after'; signal: 'SIGKILL' | 'SIGSTOP' }
}

type Call = (...args: unknown[]) => unknown
const { dist, file, steps, ttl, renew, strike } = JSON.parse(process.argv[2]!) as Climb
const fs = process.getBuiltinModule('node:fs') as unknown as Record<string, Call>
const { writeSync, openSync } = process.getBuiltinModule('node:fs')
const { O_EXCL } = process.getBuiltinModule('node:fs').constants
const say = (line: string) => writeSync(1, `${line}\n`)
const sleepSync = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

let isArmed = false
let calls = 0
const descriptors = new Set<unknown>()

// The built package calls node:fs through the module's object.
for (const name of ['openSync', 'fstatSync', 'lstatSync', 'readSync', 'writeSync', 'closeSync', 'unlinkSync']) {
  const call = fs[name]!
  fs[name] = (...args) => {
    const isOurs = descriptors.has(args[0]) || String(args[0]).startsWith(`${file}.lock`)
    if (!isOurs) return call(...args)
    const number = isArmed ? ++calls : 0
    // Slowly, that the contender gets between.
    sleepSync(1)
    strikeIf(number, 'before', name)
    if (name === 'closeSync') descriptors.delete(args[0])
    try {
      const result = call(...args)
      if (name === 'openSync') descriptors.add(result)
      if (call === openSync && Number(args[1]) & O_EXCL) say('created')
      return result
    } finally {
      strikeIf(number, 'after', name)
    }
  }
}

function strikeIf(call: number, when: 'before' | 'after', name: string): void {
  if (!strike || strike.call !== call || strike.when !== when) return
  say(`struck ${when} ${name}`)
  process.kill(process.pid, strike.signal)
}

let lock: Lock | undefined
const span = newSpan()
const look = () => lock && observe(lock, span)
const { acquireLock, isLockError } = (await import(dist)) as typeof import('lockpact')

const take: Record<Step, () => unknown> = {
  acquire: async () => (lock = await acquireLock(file, { ttl, renew, wait: 30_000, owner: 'climber' })),
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
// A stopped climber looks on after it woke. Where strace counts, every look would be one more call to be killed at.
for (let looks = strike ? 40 : 3; looks > 0; looks--) {
  look()
  await new Promise((resolve) => setTimeout(resolve, 5))
}
const held = lock?.held ?? false
const released = await lock?.release()
say(`report ${JSON.stringify({ outcome, held, released, span })}`)
