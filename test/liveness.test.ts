/*
 * Whether a holder is dead, alive or out of sight, with real processes, threads, namespaces and users. What is in sight and
 * dead is taken from at once; what is out of sight is judged by its TTL alone; what cannot be proven dead is alive.
 */
import { chmodSync, cpSync, existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { acquireLock, acquireLockSync, inspectLock, type Lock } from 'lockpact'
import { describe, expect } from 'vitest'
import { bindLease, judgeLease, newLease } from '../lib/core/index.js'
import { asNobody, forge, innerPid, inPidNamespace, inPidNamespaceWithProc, inTimeNamespace, lacks, stampOf, stateOf, test, works } from './remote.js'
import { has, projectFolder, until } from './support.js'

/** What a refusal says about the holder. */
const refused = (verdict: string) => ({ code: 'ELOCKED', verdict })
/** A file's age by the clock of its file system, which is the kernel's here. */
const ageOf = (path: string) => Date.now() - statSync(path).mtimeMs
/** When a lease began, by the wall clock: at the latest when its stamp was written, on a busy machine before. */
const beginOf = (lockFile: string) => Math.min(statSync(lockFile).mtimeMs, Date.parse(stampOf(lockFile).renewedAt!))
/** The recovered lock, and for how long the lease before had lasted by then. */
async function takeAfter(file: string): Promise<{ lock: Lock; after: number }> {
  const began = beginOf(`${file}.lock`)
  const lock = await acquireLock(file, { wait: '20s' })
  return { lock, after: Date.now() - began }
}
const SLACK = 2_000
/** How much later than possible it may happen on a busy machine. */
const MARGIN = 10_000
/** What the boot clock may be off by. */
const GRANULARITY = 50

describe.concurrent('a holder in another pid namespace', () => {
  for (const [proc, wrap] of [['its own /proc', inPidNamespaceWithProc], ['the outer /proc', inPidNamespace]] as const) {
    test(`(with ${proc}) is out of sight, and its lock is taken when the TTL and two seconds are over, not before`, async ({ folder, node, skip }) => {
      skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
      const file = join(folder, 'f')
      const there = await node({ wrap: [...wrap] })
      await there.ask(`acquireLock('f', { owner: 'there', ttl: 1000, renew: false })`)
      // Left alone, a holder itself removes what it could not confirm for another TTL.
      process.kill(innerPid(there), 'SIGSTOP')
      await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('out-of-sight'), holder: { owner: 'there' } })
      const { lock, after } = await takeAfter(file)
      expect(after).toBeGreaterThanOrEqual(1000 + SLACK - GRANULARITY)
      expect(after).toBeLessThan(1000 + SLACK + MARGIN)
      expect(lock.recovered?.owner).toBe('there')
      expect(await lock.release()).toBe(true)
    })

    test(`(with ${proc}) keeps its lock by renewing it`, async ({ folder, node, skip }) => {
      skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
      const there = await node({ wrap: [...wrap] })
      await there.ask(`acquireLock('f', { ttl: 900 }).then((lock) => { there = lock })`)
      await expect(acquireLock(join(folder, 'f'), { wait: '4s' })).rejects.toMatchObject(refused('out-of-sight'))
      expect(await there.ask('there.release()')).toBe(true)
    })

    test(`(the judge has ${proc}) is out of sight from inside, too, and is never called dead`, async ({ folder, node, skip }) => {
      skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
      const file = join(folder, 'f')
      const lock = await acquireLock(file, { ttl: 900 })
      const inside = await node({ wrap: [...wrap] })
      expect(await inside.ask(`inspectLock('f').verdict`)).toBe('out-of-sight')
      await expect(inside.ask(`acquireLock('f', { wait: '3500ms' })`)).rejects.toMatchObject(refused('out-of-sight'))
      expect(await lock.release()).toBe(true)
    })
  }

  test.for([
    ['of a process that is not here', () => 4_194_300],
    ['of somebody else here', () => 1],
    ['of the judge', () => process.pid],
  ] as [string, () => number][])('is out of sight also when its pid is that %s', async ([, pid], { folder, node, skip }) => {
    skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
    const file = join(folder, 'f')
    const there = await node({ wrap: inPidNamespaceWithProc })
    await there.ask(`acquireLock('f')`)
    forge(`${file}.lock`, { processes: [{ ...stampOf(`${file}.lock`).processes![0]!, pid: pid() }] })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
  })

  test('is in sight for its neighbours there: dead is dead at once', async ({ node, skip }) => {
    skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
    const there = await node({ wrap: inPidNamespaceWithProc })
    await there.ask(killedHolder)
    expect(await there.ask(`acquireLock('f').then((lock) => lock.recovered.owner)`)).toBe('killed')
  })

  test('is out of sight for a neighbour who sees only the outer /proc, also when that shows a process under its number', async ({ folder, node, skip }) => {
    skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
    const file = join(folder, 'f')
    const there = await node({ wrap: inPidNamespace })
    await there.ask(`acquireLock('f')`)
    expect(stampOf(`${file}.lock`).processes).toEqual([])
    // What a process beside it with a /proc of its own would have written.
    const { boot, pidns, timens } = stampOf(await ownLock(folder))
    const inner = String(await there.ask(`fs.readlinkSync('/proc/self/ns/pid')`)).replace(/\D/g, '')
    expect(inner).not.toBe(pidns)
    for (const pid of [1, 4_194_300]) {
      forge(`${file}.lock`, { processes: [{ pid, start: '1', tid: pid }], boot, pidns: inner, timens })
      expect(await there.ask(`inspectLock('f').verdict`)).toBe('out-of-sight')
      await expect(there.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('out-of-sight'))
    }
  })

  test('is not called dead by a neighbour who sees the outer /proc and happens to have the same pid in it', async ({ folder, node, skip }) => {
    skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
    skip(!has('perl') || !works('test', '-w', '/proc/sys/kernel/ns_last_pid'), 'needs perl and a kernel with ns_last_pid')
    const file = join(folder, 'f')
    // Forks until the pids in both namespaces are the same.
    const sameNumber = `for (1 .. 500) {
      my $child = fork;
      if (!$child) {
        my $outer = readlink '/proc/self';
        exec @ARGV if $outer == $$;
        open my $last, '>', '/proc/sys/kernel/ns_last_pid'; print $last $outer; close $last; exit 1
      }
      waitpid $child, 0; exit 0 if $? == 0
    }`
    const there = await node({ wrap: [...inPidNamespace, 'perl', '-e', sameNumber] })
    expect(await there.ask(`fs.readlinkSync('/proc/self')`)).toBe(String(there.pid))
    // Its neighbour, process 1 over there, lives; the outer /proc shows another process 1.
    const { boot, timens } = stampOf(await ownLock(folder))
    const pidns = String(await there.ask(`fs.readlinkSync('/proc/self/ns/pid')`)).replace(/\D/g, '')
    writeFileSync(`${file}.lock`, JSON.stringify({ v: 1, processes: [{ pid: 1, start: '123456789', tid: 1 }], boot, pidns, timens, ttlMs: 60_000 }))
    await expect(there.ask(`acquireLock('f')`)).rejects.toMatchObject({ code: 'ELOCKED' })
  })
})

describe.concurrent('a time namespace has another boot clock', () => {
  for (const [where, seconds] of [['ahead', 100_000], ['behind', -60]] as const) {
    test(`a final lock from one that is ${where} is taken when the TTL and two seconds are over`, async ({ folder, node, skip }) => {
      skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
      const file = join(folder, 'f')
      const there = await node({ wrap: inTimeNamespace(seconds) })
      await there.ask(`acquireLock('f', { owner: 'there', ttl: 1000, renew: false })`)
      process.kill(there.pid, 'SIGSTOP')
      // Its start time there is not the one that we see: nothing may follow from that.
      await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('alive'), holder: { owner: 'there' } })
      const { lock, after } = await takeAfter(file)
      expect(after).toBeGreaterThanOrEqual(1000 + SLACK - GRANULARITY)
      expect(after).toBeLessThan(1000 + SLACK + MARGIN)
      expect(lock.recovered?.owner).toBe('there')
    })

    test(`a judge in one that is ${where} neither hurries nor waits for ever`, async ({ folder, node, skip }) => {
      skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
      const file = join(folder, 'f')
      const there = await node({ wrap: inTimeNamespace(seconds) })
      const here = await node()
      await here.ask(`acquireLock('f', { ttl: 1000, renew: false })`)
      process.kill(here.pid, 'SIGSTOP')
      const began = beginOf(`${file}.lock`)
      await expect(there.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('alive'))
      await there.ask(`acquireLock('f', { wait: '20s' })`)
      const after = Date.now() - began
      expect(after).toBeGreaterThanOrEqual(1000 + SLACK - GRANULARITY)
      expect(after).toBeLessThan(1000 + SLACK + MARGIN)
    })
  }

  test('a holder that was killed there is in sight, and dead', async ({ folder, node, skip }) => {
    skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
    const there = await node({ wrap: inTimeNamespace(100_000) })
    await there.ask(`acquireLock('f', { owner: 'killed' })`)
    await there.kill()
    expect((await acquireLock(join(folder, 'f'))).recovered?.owner).toBe('killed')
  })

  for (const [where, seconds] of [['ahead', 100_000], ['behind', -60]] as const) {
    test(`a renewal by token from one that is ${where} is good for a TTL, not less and not for ever`, async ({ folder, node, skip }) => {
      skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
      const file = join(folder, 'f')
      const [here, there] = await Promise.all([node(), node({ wrap: inTimeNamespace(seconds) })])
      const token = (await here.ask(`acquireLock('f', { ttl: 2000, renew: false }).then(({ token }) => token)`)) as string
      process.kill(here.pid, 'SIGSTOP')
      await there.ask(`renewLock('f', ${JSON.stringify(token)})`)
      const { after } = await takeAfter(file)
      expect(after).toBeGreaterThanOrEqual(2000 - GRANULARITY)
      expect(after).toBeLessThan(2000 + SLACK + MARGIN)
    })
  }

  test('what is renewed by token from there stays, though its own process does not renew it', async ({ folder, node, skip }) => {
    skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
    const file = join(folder, 'f')
    const lock = await acquireLock(file, { ttl: 700, renew: false })
    const there = await node({ wrap: inTimeNamespace(100_000) })
    for (const end = performance.now() + 3_000; performance.now() < end; ) {
      await there.ask(`renewLock('f', ${JSON.stringify(lock.token)})`)
      await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED' })
    }
  })

  test('a process of another time namespace that a lease is bound to is alive while there is such a pid', () => {
    const { lease } = newLease({ owner: undefined, ttlMs: 60_000, pid: process.pid })
    const parent = process.ppid
    expect(bindLease(lease, parent).processes).toEqual([expect.objectContaining({ start: expect.any(String) }), { pid: parent, start: expect.any(String) }])
    expect(bindLease({ ...lease, timens: 'another' }, parent).processes?.[1]).toEqual({ pid: parent })
  })

  test('a lease that a co-owner elsewhere has renewed, by a wall clock that is behind, has a minute more', () => {
    const { lease } = newLease({ owner: undefined, ttlMs: 5_000, pid: process.pid })
    const behind = { ...lease, bootMs: undefined, renewedAt: new Date(Date.now() - 30_000).toISOString() }
    expect(judgeLease(behind)).toMatchObject({ stale: false })
    expect(judgeLease({ ...behind, renewedAt: new Date(Date.now() - 70_000).toISOString() })).toMatchObject({ stale: true, verdict: 'expired' })
  })

  test('a renewal by token from there does not cost the holder its lock', async ({ folder, node, skip }) => {
    skip(lacks.timeNamespaces !== '', lacks.timeNamespaces)
    const file = join(folder, 'f')
    const lock = await acquireLock(file, { ttl: 1500 })
    const there = await node({ wrap: inTimeNamespace(100_000) })
    await there.ask(`renewLock('f', ${JSON.stringify(lock.token)})`)
    await expect(acquireLock(file, { wait: '2500ms' })).rejects.toMatchObject(refused('alive'))
    expect(lock.signal.aborted).toBe(false)
    expect(await lock.release()).toBe(true)
  })
})

describe.concurrent('zombies', () => {
  test('a holder that died and is not waited for by its parent is dead', async ({ folder, node }) => {
    // The shell becomes `sleep`, which never waits. (What a shell starts with `&` reads from /dev/null unless told otherwise.)
    const holder = await node({ wrap: ['sh', '-c', 'exec 3<&0; "$@" <&3 & exec sleep 1000', 'sh'] })
    await holder.ask(`acquireLock('f', { owner: 'zombie' })`)
    await expect(acquireLock(join(folder, 'f'))).rejects.toMatchObject(refused('alive'))
    process.kill(holder.pid, 'SIGKILL')
    // Node's other threads may end a moment after the first.
    await until(() => stateOf(holder.pid) === 'Z' && readdirSync(`/proc/${holder.pid}/task`).length === 1)
    expect((await acquireLock(join(folder, 'f'))).recovered?.owner).toBe('zombie')
    expect(stateOf(holder.pid)).toBe('Z')
  })

  test('a zombie whose other threads work on is alive, until they end', async ({ folder, command, skip }) => {
    const program = leaderExits(folder)
    skip(!program, 'needs perl with threads, python3, or gcc')
    const file = join(folder, 'f')
    const holder = command(...program!)
    await until(() => stateOf(holder.pid) === 'Z')
    await acquireLock(file, { owner: 'threads', pid: holder.pid })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    // The same when it is stamped by its main thread.
    forge(`${file}.lock`, { processes: [{ ...stampOf(`${file}.lock`).processes![0]!, tid: holder.pid }] })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    holder.kill('SIGKILL')
    await until(() => stateOf(holder.pid) === undefined)
    expect((await acquireLock(file)).recovered?.owner).toBe('threads')
  })
})

describe.concurrent('threads, tasks and copies of one process', () => {
  test('a worker that was terminated is dead, while its process lives', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await holder.ask(workerTakes(''))
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    const [{ pid, tid }] = stampOf(`${file}.lock`).processes as [{ pid: number; tid: number }]
    expect(pid).toBe(holder.pid)
    expect(tid).not.toBe(pid)
    await holder.ask('worker.terminate()')
    await until(() => !existsSync(`/proc/${pid}/task/${tid}`))
    // Its own process sees it like everybody else.
    expect(await holder.ask(`inspectLock('f').verdict`)).toBe('dead')
    expect((await acquireLock(file)).recovered?.owner).toBe('worker')
    expect(await holder.ask('process.pid')).toBe(pid)
  })

  test('a worker that lives keeps its lock by renewing it', async ({ folder, node }) => {
    const holder = await node()
    await holder.ask(workerTakes('ttl: 1000'))
    await expect(acquireLock(join(folder, 'f'), { wait: '2500ms' })).rejects.toMatchObject(refused('alive'))
  })

  test('a worker is refused what the main thread holds, and the other way round', async ({ node }) => {
    const holder = await node()
    await holder.ask(`acquireLock('f').then((lock) => { main = lock })`)
    await expect(holder.ask(workerTakes(''))).rejects.toMatchObject({ message: expect.stringContaining('f is locked by') as string })
    expect(await holder.ask('main.release()')).toBe(true)
    await holder.ask(workerTakes(''))
    await expect(holder.ask(`acquireLock('f')`)).rejects.toMatchObject({ ...refused('alive'), holder: { owner: 'worker' } })
  })

  test('of twenty tasks one gets the lock', async ({ folder }) => {
    const file = join(folder, 'f')
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => acquireLock(file)))
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(() => acquireLockSync(file)).toThrow(expect.objectContaining(refused('alive')) as Error)
  })

  test('two copies of the package exclude each other', async ({ folder, node }) => {
    const remote = await node()
    await remote.ask(`import(${JSON.stringify(copyOfPackage(folder))}).then((module) => { other = module })`)
    expect(await remote.ask('other.acquireLock !== acquireLock')).toBe(true)
    await remote.ask(`acquireLock('f').then((lock) => { first = lock })`)
    await expect(remote.ask(`other.acquireLock('f')`)).rejects.toMatchObject(refused('alive'))
    expect(await remote.ask('first.release()')).toBe(true)
    await remote.ask(`other.acquireLock('f').then((lock) => { second = lock })`)
    await expect(remote.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('alive'))
    expect(await remote.ask('second.release()')).toBe(true)
  })
})

describe.concurrent('a pid is not an identity', () => {
  test('a process that started at another time is another process', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await holder.ask(`acquireLock('f', { owner: 'earlier' })`)
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    const [{ start, ...first }] = stampOf(`${file}.lock`).processes as [{ pid: number; start: string }]
    forge(`${file}.lock`, { processes: [{ ...first, start: String(Number(start) - 1) }] })
    expect((await acquireLock(file)).recovered?.owner).toBe('earlier')
  })

  test('a process that was really given a dead holder\'s pid does not hold its lock', async ({ node, skip }) => {
    skip(lacks.pidNamespaces !== '', lacks.pidNamespaces)
    skip(!works('test', '-w', '/proc/sys/kernel/ns_last_pid'), 'needs a kernel with ns_last_pid')
    const there = await node({ wrap: inPidNamespaceWithProc })
    await there.ask(killedHolder)
    const { pid } = (await there.ask(`inspectLock('f').stamp.processes[0]`)) as { pid: number }
    expect(await there.ask(`import('node:child_process').then(({ spawn }) => {
      fs.writeFileSync('/proc/sys/kernel/ns_last_pid', '${pid - 1}')
      return spawn('sleep', ['1000']).pid
    })`)).toBe(pid)
    expect(await there.ask(`acquireLock('f').then((lock) => lock.recovered.owner)`)).toBe('killed')
  })

  test('a process without a start time in its stamp is taken for the one that is there', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await holder.ask(`acquireLock('f')`)
    forge(`${file}.lock`, { processes: [{ pid: holder.pid }] })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    await holder.kill()
    expect((await acquireLock(file)).recovered?.processes).toEqual([{ pid: holder.pid }])
  })
})

describe.concurrent('a holder that cannot be in sight', () => {
  test('because it is from another boot: dead or not, its lock is good for its TTL and a minute by the clock of the file system', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await holder.ask(`acquireLock('f', { owner: 'before the crash', ttl: 1000 })`)
    await holder.kill()
    forge(`${file}.lock`, { boot: '00000000-0000-4000-8000-000000000000' })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    makeOld(`${file}.lock`, 59_000)
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    expect(ageOf(`${file}.lock`)).toBeLessThan(61_000)
    makeOld(`${file}.lock`, 61_100)
    expect((await acquireLock(file)).recovered?.owner).toBe('before the crash')
  })

  test('because no process is in the stamp: a detached lock outlives whoever took it, until its TTL is over', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const taker = await node()
    await taker.ask(`acquireLock('f', { owner: 'one-liner', detached: true, ttl: 2000 })`)
    await taker.kill()
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    const { lock, after } = await takeAfter(file)
    expect(after).toBeGreaterThanOrEqual(2000 - GRANULARITY)
    expect(after).toBeLessThan(2000 + MARGIN)
    expect(lock.recovered?.owner).toBe('one-liner')
  })
})

describe.concurrent('a holder of another user', () => {
  for (const [which, hidden] of [['who may not be signalled', false], ['whose processes are hidden', true]] as const) {
    test(`${which} is alive, also when it is silent, and dead when it is`, async ({ folder, node, skip }) => {
      skip(lacks.nobody !== '', lacks.nobody)
      skip(hidden && lacks.hiddenProcesses !== '', lacks.hiddenProcesses)
      const hide = ['unshare', '-m', 'sh', '-c', 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', 'sh']
      chmodSync(folder, 0o777)
      const dist = copyOfPackage(folder)
      const holder = await node()
      await holder.ask(`acquireLock('f', { owner: 'root', ttl: 1000 })`)
      const nobody = await node({ wrap: [...(hidden ? hide : []), ...asNobody], dist })
      expect(await nobody.ask(`process.getuid() + ' ' + fs.existsSync('/proc/${holder.pid}')`)).toBe(`65534 ${String(!hidden)}`)
      await expect(nobody.ask(`acquireLock('f', { wait: '1500ms' })`)).rejects.toMatchObject(refused('alive'))
      process.kill(holder.pid, 'SIGSTOP')
      await expect(nobody.ask(`acquireLock('f', { wait: '2500ms' })`)).rejects.toMatchObject(refused('silent'))
      await holder.kill()
      expect(await nobody.ask(`acquireLock('f').then((lock) => lock.recovered.owner)`)).toBe('root')
    })
  }
})

describe.concurrent('a lock that is bound', () => {
  test('to two processes is alive while either lives, and dead when both are', async ({ folder, node, command }) => {
    const file = join(folder, 'f')
    const wrapper = await node()
    const child = command('sleep', '1000')
    await wrapper.ask(`acquireLock('f', { owner: 'both' }).then((lock) => lock.bind(${child.pid}))`)
    await wrapper.kill()
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    child.kill('SIGKILL')
    await until(() => stateOf(child.pid) === undefined)
    expect((await acquireLock(file)).recovered?.owner).toBe('both')
  })

  test('stays alive when the second process dies first', async ({ folder, node, command }) => {
    const file = join(folder, 'f')
    const wrapper = await node()
    const child = command('sleep', '1000')
    await wrapper.ask(`acquireLock('f', { owner: 'both' }).then((lock) => lock.bind(${child.pid}))`)
    child.kill('SIGKILL')
    await until(() => stateOf(child.pid) === undefined)
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    await wrapper.kill()
    expect((await acquireLock(file)).recovered?.owner).toBe('both')
  })

  test('by `pid` outlives whoever took it, and dies with that process', async ({ folder, node, command }) => {
    const file = join(folder, 'f')
    const taker = await node()
    const agent = command('sleep', '1000')
    await taker.ask(`acquireLock('f', { owner: 'agent', pid: ${agent.pid} })`)
    await taker.kill()
    await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('alive'), holder: { owner: 'agent' } })
    agent.kill('SIGKILL')
    await until(() => stateOf(agent.pid) === undefined)
    expect((await acquireLock(file)).recovered?.owner).toBe('agent')
  })

  test('to a living process has a final TTL all the same', async ({ folder, command }) => {
    const file = join(folder, 'f')
    const agent = command('sleep', '1000')
    await acquireLock(file, { pid: agent.pid, ttl: 1000 })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    const { after } = await takeAfter(file)
    expect(after).toBeGreaterThanOrEqual(1000 - GRANULARITY)
    expect(after).toBeLessThan(1000 + MARGIN)
  })

  test('cannot be bound to a dead process, nor to a fourth', async ({ folder, command }) => {
    const file = join(folder, 'f')
    const dead = command('true')
    await until(() => stateOf(dead.pid) === undefined)
    await expect(acquireLock(file, { pid: dead.pid })).rejects.toMatchObject({ code: 'EINVAL' })
    expect(inspectLock(file).state).toBe('free')
    const lock = await acquireLock(file)
    await expect(lock.bind(dead.pid)).rejects.toMatchObject({ code: 'EINVAL' })
    await lock.bind(command('sleep', '1000').pid)
    await lock.bind(command('sleep', '1000').pid)
    await expect(lock.bind(command('sleep', '1000').pid)).rejects.toMatchObject({ code: 'EINVAL' })
    expect(stampOf(`${file}.lock`).processes).toHaveLength(3)
    expect(await lock.release()).toBe(true)
  })
})

// ---- helpers ----

/** For {@link Remote.ask}: a child of its own takes `f` and is killed and waited for. */
const killedHolder = `(async () => {
  const { spawnSync } = await import('node:child_process')
  const script = \`const { acquireLock } = await import(\${JSON.stringify(dist)}); await acquireLock('f', { owner: 'killed' }); process.kill(process.pid, 'SIGKILL')\`
  const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script])
  if (signal !== 'SIGKILL' || !fs.existsSync('f.lock')) throw new Error('it should have been killed as a holder: ' + stderr)
})()`

/** Where a lock of this process is. */
async function ownLock(folder: string): Promise<string> {
  return (await acquireLock(join(folder, 'own'))).lockFile
}

function makeOld(path: string, ms: number): void {
  const then = (Date.now() - ms) / 1000
  utimesSync(path, then, then)
}

/** A copy of the built package in a folder, for everybody to read: its entry's URL. */
function copyOfPackage(folder: string): string {
  const copy = join(folder, 'copy')
  cpSync(join(projectFolder, 'dist'), join(copy, 'dist'), { recursive: true })
  cpSync(join(projectFolder, 'package.json'), join(copy, 'package.json'))
  return pathToFileURL(join(copy, 'dist/index.js')).href
}

/** For {@link Remote.ask}: a worker thread takes `f`, or it rejects. */
const workerTakes = (options: string) => `new Promise((resolve, reject) => {
  worker = new Worker(\`import(\${JSON.stringify(dist)}).then(async ({ acquireLock }) => {
    await acquireLock('f', { owner: 'worker', ${options} });
    (await import('node:worker_threads')).parentPort.postMessage('held')
    setInterval(() => {}, 1000)
  })\`, { eval: true })
  worker.on('message', () => resolve()).on('error', reject)
})`

/** A program whose main thread ends while another one works on. */
function leaderExits(folder: string): string[] | undefined {
  const exit = { x64: 60, arm64: 93, riscv64: 93 }[process.arch as string]
  if (exit !== undefined && works('perl', '-Mthreads', '-e', '1')) return ['perl', '-Mthreads', '-e', `threads->create(sub { sleep 1000 }); syscall(${exit}, 0)`]
  if (exit !== undefined && works('python3', '-c', 'import ctypes')) {
    return ['python3', '-c', `import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); ctypes.CDLL(None).syscall(${exit}, 0)`]
  }
  const source = join(folder, 'leader.c')
  const program = join(folder, 'leader')
  writeFileSync(source, '#include <pthread.h>\n#include <unistd.h>\nstatic void *work(void *none) { sleep(1000); return none; }\nint main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_exit(0); }\n')
  return works('gcc', '-pthread', '-o', program, source) ? [program] : undefined
}
