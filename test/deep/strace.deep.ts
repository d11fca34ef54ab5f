/* The ladder of kills once more, by strace, which knows nothing of our code: it counts the kernel's calls at the lock's paths. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { has } from '../support.js'
import type { Step } from './climber.js'
import { climb, stampOfTheDead, upwards } from './rung.js'

const CALLS = ['openat', 'statx', 'pread64', 'pwrite64', 'close', 'unlink']
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

for (const { name, steps, dead } of lives) {
  test(`${name}: killed by strace at every system call`, async ({ skip }) => {
    if (reason) skip(reason)
    const deadStamp = dead && (await stampOfTheDead())
    const faults: string[] = []
    const counts: string[] = []
    let slowestMs = 0
    let kills = 0
    for (const call of CALLS) {
      const before = kills
      await upwards(4, async (number) => {
        const wrap = (file: string) => strace(file, `inject=${call}:signal=SIGKILL:when=${number}`)
        const { struck, unstamped, lateMs, releaseMs, faults: found } = await climb({ climb: { steps, renew: true }, deadStamp, wrap })
        faults.push(...found.map((fault) => `${call} ${number}: ${fault}`))
        if (!struck) return false
        kills++
        if (!unstamped) slowestMs = Math.max(slowestMs, lateMs)
        expect(lateMs + releaseMs).toBeLessThan(unstamped ? 8_000 : 1_500)
        return true
      })
      counts.push(`${kills - before} ${call}`)
    }
    expect(faults).toEqual([])
    expect(kills).toBeGreaterThan(15)
    console.log(`${name}: ${kills} kills by strace (${counts.join(', ')}), contender in: slowest ${Math.round(slowestMs)} ms`)
  })
}

// Only calls at these paths, or at descriptors of them, are counted.
function strace(file: string, inject: string): string[] {
  const paths = ['', '.guard', '.guard.guard'].flatMap((suffix) => ['-P', `${file}.lock${suffix}`])
  return ['strace', '-f', '-qq', '-o', '/dev/null', ...paths, '-e', `trace=${CALLS.join(',')}`, '-e', inject]
}
