/* The ladder of kills once more, by strace, which knows nothing of our code: it counts the kernel's calls at the lock's paths. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { has, tempFolder } from '../support.js'
import type { Step } from './climber.js'
import { climb, type Rung, stampOfTheDead, startClimber, upwards } from './rung.js'

const lives: { name: string; steps: Step[]; dead?: true }[] = [
  { name: 'a whole life (acquire, renew, renew late, release)', steps: ['acquire', 'renew', 'oversleep', 'renew', 'release'] },
  { name: 'a life that begins with a dead lock', steps: ['acquire', 'release'], dead: true },
]

function whyNot(): string | undefined {
  if (!has('strace')) return 'strace is missing (Debian package strace)'
  try {
    execFileSync('strace', ['-o', '/dev/null', '-e', 'inject=unlink:signal=SIGKILL', 'true'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'strace may not trace here'
  }
}

const reason = whyNot()
let total = 0
afterAll(() => console.log(`ladders by strace, in all: ${total} kills`))

for (const { name, steps, dead } of lives) {
  test(`${name}: killed by strace at every system call`, async ({ skip }) => {
    if (reason) skip(reason)
    const rung: Rung = { climb: { steps, renew: true }, deadStamp: dead && (await stampOfTheDead()) }
    const faults: string[] = []
    const counts: string[] = []
    let slowestMs = 0
    let kills = 0
    for (const [call, times] of await callsOf(rung)) {
      const height = await upwards(4, async (number) => {
        const wrap = (file: string) => strace(file, '-o', '/dev/null', '-e', `inject=${call}:signal=SIGKILL:when=${number}`)
        const { struck, unstamped, lateMs, releaseMs, faults: found } = await climb({ ...rung, wrap })
        faults.push(...found.map((fault) => `${call} ${number}: ${fault}`))
        if (!struck) return false
        kills++
        if (!unstamped) slowestMs = Math.max(slowestMs, lateMs)
        expect(lateMs + releaseMs).toBeLessThan(unstamped ? 8_000 : 1_500)
        return true
      })
      expect(faults).toEqual([])
      expect(height, call).toBeGreaterThanOrEqual(times)
      counts.push(`${height} ${call}`)
    }
    total += kills
    console.log(`${name}: ${kills} kills by strace (at each of ${counts.join(', ')}), contender in: slowest ${Math.round(slowestMs)} ms`)
  })
}

/** Which system calls such a life makes, and how often, when nobody is in its way: a new one is found here, not in a list. */
async function callsOf(rung: Rung): Promise<Map<string, number>> {
  const trace = join(tempFolder(), 'trace')
  const child = startClimber(join(tempFolder(), 'f'), { ...rung, wrap: (file) => strace(file, '-o', trace) })
  expect((await child.ended).code, child.err()).toBe(0)
  const calls = new Map<string, number>()
  for (const [, call] of readFileSync(trace, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)) calls.set(call!, (calls.get(call!) ?? 0) + 1)
  expect([...calls.keys()]).toEqual(expect.arrayContaining(['openat', 'pwrite64', 'unlink']))
  return calls
}

// Only calls at these paths, or at descriptors of them, are counted.
function strace(file: string, ...options: string[]): string[] {
  const paths = ['', '.guard', '.guard.guard'].flatMap((suffix) => ['-P', `${file}.lock${suffix}`])
  return ['strace', '-f', '-qq', ...paths, ...options]
}
