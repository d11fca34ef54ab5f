/*
 * The ladders once more, by strace, which knows nothing of our code: it counts the kernel's calls at the lock's paths, kills before
 * one, and stops after one.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { has, tempFolder } from '../support.js'
import type { Step } from './climber.js'
import { climb, type Result, type Rung, stampOfTheDead, startClimber, upwards } from './rung.js'

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
const total = { SIGKILL: 0, SIGSTOP: 0 }
afterAll(() => console.log(`ladders by strace, in all: ${total.SIGKILL} kills, ${total.SIGSTOP} pauses`))

for (const { name, steps, dead } of lives) {
  test(`${name}: killed by strace at every system call`, async ({ skip }) => {
    if (reason) skip(reason)
    const { struck, heights } = await ladder({ climb: { steps, renew: true }, deadStamp: dead && (await stampOfTheDead()) }, 'SIGKILL', 4)
    for (const { unstamped, lateMs, releaseMs } of struck) expect(lateMs + releaseMs).toBeLessThan(unstamped ? 8_000 : 1_500)
    const slowestMs = Math.max(...struck.filter(({ unstamped }) => !unstamped).map(({ lateMs }) => lateMs))
    console.log(`${name}: ${struck.length} kills by strace (at each of ${heights}), contender in: slowest ${Math.round(slowestMs)} ms`)
  })

  test(`${name}: stopped by strace beyond the TTL after every system call; never two inside their leases`, async ({ skip }) => {
    if (reason) skip(reason)
    const { struck, heights } = await ladder({ climb: { steps, renew: true }, deadStamp: dead && (await stampOfTheDead()), pause: { atMostMs: 7_500 } }, 'SIGSTOP', 10)
    const overtaken = struck.filter(({ overtaken }) => overtaken).length
    expect(overtaken).toBeGreaterThan(0)
    console.log(`${name}: ${struck.length} pauses by strace (after each of ${heights}), ${overtaken} overtaken meanwhile`)
  })
}

/** Strikes at the first, second, third … of each system call, until there is no such call. */
async function ladder(rung: Rung, signal: 'SIGKILL' | 'SIGSTOP', width: number): Promise<{ struck: Result[]; heights: string }> {
  const struck: Result[] = []
  const faults: string[] = []
  const heights: string[] = []
  for (const [call, times] of await callsOf(rung)) {
    const height = await upwards(width, async (number) => {
      const trace = join(tempFolder(), 'trace')
      const wrap = (file: string) => strace(file, '-o', trace, '-e', `inject=${call}:signal=${signal}:when=${number}`)
      const result = await climb({ ...rung, wrap, trace })
      faults.push(...result.faults.map((fault) => `${call} ${number}: ${fault}`))
      if (result.struck) struck.push(result)
      return result.struck
    })
    expect(faults).toEqual([])
    expect(height, call).toBeGreaterThanOrEqual(times)
    heights.push(`${height} ${call}`)
  }
  total[signal] += struck.length
  return { struck, heights: heights.join(', ') }
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
