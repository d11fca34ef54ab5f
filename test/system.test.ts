/* system.ts and the seam: what a machine that sleeps, a short write, a wall clock hours ahead and an own guard left behind do. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import * as protocol from '../lib/core/protocol.js'
import { type Context, GUARD_SUFFIX, newWatch, type Request } from '../lib/core/protocol.js'
import { type System, system } from '../lib/core/system.js'
import { startNode, tempFolder } from './support.js'

/** system.ts takes what it calls from the same objects. */
const MACHINE = `import fs from 'node:fs'
let slept = 0
const { readFileSync, writeSync } = fs, { now } = Date
fs.readFileSync = (path, ...rest) => path === '/proc/uptime' ? (Number.parseFloat(readFileSync(path, ...rest)) + slept / 1000) + ' 0' : readFileSync(path, ...rest)
Date.now = () => now() + slept
`

test.runIf(process.platform === 'linux')('after the machine has slept, which its monotonic clock does not count, a lease is over', async () => {
  const folder = tempFolder()
  const child = startNode(`${MACHINE}const lock = acquireLockSync('queue.md', { ttl: '10m' }); say(String(lock.held))
slept = 3_600_000; say(String(lock.held)); say(inspectLock('queue.md').verdict); lock.renew(); say(String(lock.held))`, { cwd: folder })
  expect([await child.line(), await child.line(), await child.line(), await child.line()]).toEqual(['true', 'false', 'expired', 'true'])
})

test('a stamp of which the disk took only a part is no lock, and is removed', async () => {
  const folder = tempFolder()
  const child = startNode(`${MACHINE}let short = true
fs.writeSync = (fd, text, at) => typeof text === 'string' && short ? writeSync(fd, text.slice(0, 300), at) : writeSync(fd, text, at)
await acquireLock('queue.md').catch(({ code }) => process.stdout.write(code + '\\n'))
process.stdout.write(fs.readdirSync('.').join() + '.\\n'); short = false; await acquireLock('queue.md')`, { cwd: folder })
  expect([await child.line(), await child.line()]).toEqual(['ENOSPC', '.'])
  expect((await child.ended).code).toBe(0)
})

function contextOf(pid: number, wallAhead = 0): Context & { system: System } {
  const clock = () => ({ ...system.clock(), wall: system.clock().wall + wallAhead })
  return { disowned: new Map(), system: { ...system, clock, machine: () => ({ boot: 'b', pidns: '1', timens: '1', host: 'h', self: { pid, start: '1' }, granularityMs: 50 }), process: () => ({ exists: true, start: '1' }) } }
}
const request = (id: string): Request => ({ id, adopt: undefined, fields: { owner: id, ttlMs: 60_000, renews: true } })

test('the fence is of the clock of the file system: a wall clock that is ahead leaves nobody behind', () => {
  const path = join(tempFolder(), 'f.lock')
  const [ahead, next] = [contextOf(1, 3 * 3_600_000), contextOf(2)]
  const first = protocol.acquire(ahead, path, request('0000000000000001'), newWatch())
  protocol.release(ahead, path, '0000000000000001', newWatch())
  const second = protocol.acquire(next, path, request('0000000000000002'), newWatch())
  if (!first.done || !second.done) throw new Error('both get it')
  expect(second.stamp.fence).toBeGreaterThanOrEqual(first.stamp.fence!)
})

test('a guard of ours that could not be removed does not keep us from the next step, though we live', () => {
  const path = join(tempFolder(), 'f.lock')
  const first = contextOf(1)
  protocol.acquire(first, path, request('0000000000000001'), newWatch())
  const { unlink } = first.system
  first.system.unlink = (at) => {
    if (at.endsWith(GUARD_SUFFIX)) throw Object.assign(new Error('EIO: made up'), { code: 'EIO', syscall: 'unlink' })
    unlink(at)
  }
  expect(protocol.confirm(first, path, '0000000000000001', newWatch())).toMatchObject({ done: true })
  expect(fs.existsSync(path + GUARD_SUFFIX)).toBe(true)
  first.system.unlink = unlink
  // Without chores between.
  expect(protocol.release(first, path, '0000000000000001', newWatch())).toEqual({ done: true, released: true })
  expect(fs.readdirSync(join(path, '..'))).toEqual([])
})
