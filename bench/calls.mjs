import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const TRACED = join(import.meta.dirname, 'traced.mjs')
const OPERATIONS = {
  bare: 'its bare system calls',
  async: 'acquire + release',
  asyncNoTtl: 'acquire + release, no TTL',
  renew: 'renew',
  refusal: 'refusal',
  properLockfile: 'proper-lockfile, lock + unlock',
  lockfile: 'lockfile, lock + unlock',
}
// How libuv's threads wake each other is not the operation's.
const NOISE = /epoll|\b(?:write|read)\(\d+, "\\[12]\\0\\0\\0\\0\\0\\0\\0"/

/** System calls on files, descriptors, processes and signal handlers, of one operation in a warm process. Empty without strace. */
export function countCalls(library, folder) {
  if (spawnSync('strace', ['-V']).error) return []
  return Object.entries(OPERATIONS).map(([operation, what]) => ({ what, ...countOne(library, folder, operation) }))
}

function countOne(library, folder, operation) {
  const scratch = mkdtempSync(join(folder, 'traced-'))
  const output = join(scratch, 'strace')
  const filter = 'trace=%file,%desc,kill,rt_sigaction'
  const { status, stderr } = spawnSync('strace', ['-f', '-o', output, '-e', filter, process.execPath, TRACED, library, scratch, operation])
  if (status !== 0) throw new Error(`strace failed: ${stderr}`)
  const lines = readFileSync(output, 'utf8').split('\n')
  const within = lines.slice(lines.findIndex((line) => line.includes('/bench-begin')) + 1)
  const calls = within.slice(0, within.findIndex((line) => line.includes('/bench-end'))).filter((line) => !NOISE.test(line))
  const counts = {}
  for (const line of calls) {
    // Where threads interleave, a call has a second line, `<... write resumed>`.
    const [, name] = /^\d+ +(\w+)\(/.exec(line) ?? []
    if (name) counts[name] = (counts[name] ?? 0) + 1
  }
  return { total: Object.values(counts).reduce((sum, count) => sum + count, 0), counts }
}
