import { closeSync, constants, openSync, readSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import lockfile from 'lockfile'
import properLockfile from 'proper-lockfile'
import { inTurns, median, ratio } from './measure.mjs'

const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY } = constants
const TEXT = `${'x'.repeat(1023)}\n`
const buffer = Buffer.alloc(2048)

/** What the protocol asks of the machine in one cycle: two files created, one read, both unlinked. */
export function bareCycle(path) {
  create(path)
  create(`${path}.guard`)
  const fd = openSync(path, O_RDONLY)
  buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, 0))
  closeSync(fd)
  unlinkSync(path)
  unlinkSync(`${path}.guard`)
}

function create(path) {
  const fd = openSync(path, O_CREAT | O_EXCL | O_WRONLY, 0o644)
  writeSync(fd, TEXT, 0)
  closeSync(fd)
}

/** One cycle of each contender, each on a file of its own. */
export function contenders({ acquireLock, acquireLockSync }, folder) {
  const file = (name) => {
    const path = join(folder, name)
    writeFileSync(path, '')
    return path
  }
  const [ours, theirs, oldest] = [file('ours'), file('theirs'), file('oldest')]
  const lock = promisify(lockfile.lock)
  const unlock = promisify(lockfile.unlock)
  return {
    bare: { call: () => bareCycle(`${ours}.lock`), isSync: true },
    async: { call: async () => (await acquireLock(ours)).release() },
    asyncNoTtl: { call: async () => (await acquireLock(ours, { ttl: Infinity })).release() },
    sync: { call: () => acquireLockSync(ours).release(), isSync: true },
    syncNoTtl: { call: () => acquireLockSync(ours, { ttl: Infinity }).release(), isSync: true },
    properLockfile: { call: async () => (await properLockfile.lock(theirs))() },
    lockfile: {
      call: async () => {
        await lock(`${oldest}.lock`)
        await unlock(`${oldest}.lock`)
      },
    },
  }
}

const LABELS = {
  bare: 'its bare system calls',
  async: 'acquire + release, async',
  asyncNoTtl: 'acquire + release, async, no TTL',
  sync: 'acquire + release, sync',
  syncNoTtl: 'acquire + release, sync, no TTL',
  properLockfile: 'proper-lockfile, lock + unlock',
  lockfile: 'lockfile, lock + unlock',
}
const BARE_BAR = 1.4
const RIVAL_BAR = 2.5

export async function measureCycle(library, folder, { quick }) {
  const samples = await inTurns(contenders(library, folder), { rounds: quick ? 10 : 60, batch: 100 })
  const rows = Object.entries(samples).map(([name, times]) => {
    const toBare = ratio(times, samples.bare)
    const isOurs = name.includes('sync')
    const bar = isOurs ? { bar: `${BARE_BAR}x bare`, isMet: toBare <= BARE_BAR } : {}
    return { what: LABELS[name], ms: median(times), ratio: toBare, to: 'bare', ...bar }
  })
  const faster = ratio(samples.properLockfile, samples.async)
  const rival = { what: 'proper-lockfile against ours, async', ratio: faster, to: 'ours', bar: `${RIVAL_BAR}x ours`, isMet: faster >= RIVAL_BAR }
  return [...rows, rival]
}
