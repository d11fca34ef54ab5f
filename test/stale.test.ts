/*
 * When a lock is stale: the four rules, each from both sides, with real processes that are stopped, killed and lied to about
 * the time. And what keeps a lock from becoming stale: renewal, tokens, adoption.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, acquireLockSync, inspectLock, releaseLock, renewLock, type Stamp, sweepLocks } from 'lockpact'
import { describe, expect } from 'vitest'
import { system } from '../lib/core/system.js'
import { age, forge, inFakeTime, lacks, type Remote, stampOf, test, works } from './remote.js'
import { sleep, until } from './support.js'

/** What a refusal says about the holder. */
const refused = (verdict: string) => ({ code: 'ELOCKED', verdict })
const SILENT = 5_000
/** How much later than possible it may happen on a busy machine. */
const MARGIN = 10_000
/** What an owner believes less than the judges. */
const GRANULARITY = 50

/** How long ago a lease began: that was before the stamp was written. */
const sinceBeginOf = ({ bootMs }: Stamp) => system.clock().boot - bootMs!

/** `lock` over there is then the lock of `f`. */
const take = (holder: Remote, options: string): Promise<void> => holder.ask(`acquireLock('f', { owner: 'holder', ${options} }).then((it) => { lock = it })`)

describe.concurrent('rule 1: a dead holder', () => {
  for (const options of ['ttl: 600_000', 'ttl: Infinity', 'renew: false', 'ttl: 600_000, renew: false']) {
    test(`has lost its lock at once (${options}), and not a moment before`, async ({ folder, node }) => {
      const file = join(folder, 'f')
      const holder = await node()
      await take(holder, options)
      await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
      expect(inspectLock(file)).toMatchObject({ state: 'held', verdict: 'alive' })
      await holder.kill()
      expect(inspectLock(file)).toMatchObject({ state: 'stale', verdict: 'dead' })
      const lock = await acquireLock(file)
      expect(lock.recovered).toMatchObject({ owner: 'holder', processes: [{ pid: holder.pid }] })
      expect(await lock.release()).toBe(true)
      expect(readdirSync(folder)).toEqual([])
    })
  }

  test('has lost it for a synchronous caller, and for a sweep', async ({ folder, node }) => {
    for (const recover of [() => acquireLockSync(join(folder, 'f')).release(), () => sweepLocks(folder)]) {
      const holder = await node()
      await take(holder, '')
      expect(await sweepLocks(folder)).toMatchObject([{ action: 'kept', verdict: 'alive' }])
      expect(() => acquireLockSync(join(folder, 'f'))).toThrow(expect.objectContaining(refused('alive')) as Error)
      await holder.kill()
      await recover()
      expect(readdirSync(folder)).toEqual([])
    }
  })

  test('goes with a sweep, though the dead have left guards over it; or the sweep says what to do', async ({ folder, node }) => {
    const holder = await node()
    await take(holder, '')
    await holder.kill()
    const guards = [1, 2, 3, 4, 5].map((depth) => join(folder, `f.lock${'.guard'.repeat(depth)}`))
    for (const [index, guard] of guards.entries()) {
      copyFileSync(join(folder, 'f.lock'), guard)
      forge(guard, { id: String(index).repeat(16) })
    }
    await expect(acquireLock(join(folder, 'f'))).rejects.toMatchObject({ ...refused('guarded'), message: expect.stringContaining('lockpact sweep') })
    expect((await sweepLocks(folder))[0]).toMatchObject({ action: 'kept', why: expect.stringContaining('by hand') })
    rmSync(guards[4]!)
    await expect(acquireLock(join(folder, 'f'))).rejects.toMatchObject(refused('guarded'))
    await sweepLocks(folder)
    expect(readdirSync(folder)).toEqual([])
  })

  test('lets a waiter in while it waits', async ({ folder, node }) => {
    const holder = await node()
    await take(holder, 'ttl: 600_000')
    const waiting = acquireLock(join(folder, 'f'), { wait: '20s' })
    await sleep(300)
    await holder.kill()
    const killed = Date.now()
    expect((await waiting).recovered?.owner).toBe('holder')
    expect(Date.now() - killed).toBeLessThan(MARGIN)
  })
})

describe.concurrent('rule 2: a TTL that is final', () => {
  for (const [which, options, verdict] of [
    ['of a living holder that does not renew', 'renew: false', 'alive'],
    ['of a detached lock', 'detached: true', 'out-of-sight'],
  ] as const) {
    test(`${which} is over when it is over, and its holder is told`, async ({ folder, node }) => {
      const file = join(folder, 'f')
      const holder = await node()
      await take(holder, `ttl: 1500, ${options}`)
      const stamp = stampOf(`${file}.lock`)
      await expect(acquireLock(file)).rejects.toMatchObject(refused(verdict))
      expect(await holder.ask('lock.held')).toBe(true)
      const successor = await acquireLock(file, { wait: '20s' })
      const after = sinceBeginOf(stamp)
      expect(after).toBeGreaterThanOrEqual(1500 - GRANULARITY)
      expect(after).toBeLessThan(1500 + MARGIN)
      expect(successor.recovered?.owner).toBe('holder')
      expect(await holder.ask('lock.held')).toBe(false)
      expect(await holder.ask('lock.release()')).toBe(false)
      expect(await holder.ask('lock.signal.aborted')).toBe(true)
      expect(stampOf(`${file}.lock`).id).toBe(successor.id)
      expect(await successor.release()).toBe(true)
    })
  }

  test('is told as such to whoever looks', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 1000, renew: false')
    expect(inspectLock(file)).toMatchObject({ state: 'held', verdict: 'alive' })
    expect(inspectLock(file).remainingMs).toBeGreaterThan(0)
    process.kill(holder.pid, 'SIGSTOP') // or it would clear up after itself
    await until(() => inspectLock(file).state === 'stale')
    expect(inspectLock(file)).toMatchObject({ verdict: 'expired', stamp: { owner: 'holder' } })
    expect(inspectLock(file).remainingMs).toBeUndefined()
  })
})

describe.concurrent('rule 3: a living holder that has fallen silent', () => {
  test('is refused to everybody who does not wait, however often they ask', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600')
    process.kill(holder.pid, 'SIGSTOP')
    await until(() => inspectLock(file).verdict === 'silent')
    expect(inspectLock(file).state).toBe('held')
    for (const end = Date.now() + SILENT + 1500; Date.now() < end; await sleep(100)) {
      await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('silent'), holder: { owner: 'holder' } })
    }
    process.kill(holder.pid, 'SIGCONT')
    expect(await holder.ask('lock.release()')).toBe(true)
  })

  test('loses its lock to who has watched it for five seconds, is told so, and does not touch its successor\'s', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600')
    await holder.ask(`(told = new Promise((tell) => lock.signal.addEventListener('abort', () => tell(lock.signal.reason.code))), 'listening')`)
    process.kill(holder.pid, 'SIGSTOP')
    await until(() => inspectLock(file).verdict === 'silent')
    const started = Date.now()
    const successor = await acquireLock(file, { owner: 'successor', wait: '20s' })
    expect(Date.now() - started).toBeGreaterThanOrEqual(SILENT)
    expect(Date.now() - started).toBeLessThan(SILENT + MARGIN)
    expect(successor.recovered?.owner).toBe('holder')
    process.kill(holder.pid, 'SIGCONT')
    expect(await holder.ask('lock.held')).toBe(false)
    expect(await holder.ask('told')).toBe('ECOMPROMISED') // by its own timer
    await expect(holder.ask('lock.assertHeld()')).rejects.toMatchObject({ code: 'ECOMPROMISED' })
    expect(await holder.ask('lock.release()')).toBe(false)
    expect(stampOf(`${file}.lock`)).toMatchObject({ id: successor.id, owner: 'successor' })
    expect(await successor.release()).toBe(true)
  })

  test('loses it to a synchronous watcher as well', async ({ folder, node }) => {
    const holder = await node()
    await take(holder, 'ttl: 600')
    process.kill(holder.pid, 'SIGSTOP')
    await until(() => inspectLock(join(folder, 'f')).verdict === 'silent')
    const watcher = await node()
    const started = Date.now()
    expect(await watcher.ask(`acquireLockSync('f', { wait: '20s' }).recovered.owner`)).toBe('holder')
    expect(Date.now() - started).toBeGreaterThanOrEqual(SILENT)
    expect(Date.now() - started).toBeLessThan(SILENT + MARGIN)
  })

  test('keeps its lock when it goes on in time: whoever watched begins again', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600')
    process.kill(holder.pid, 'SIGSTOP')
    await until(() => inspectLock(file).verdict === 'silent')
    const watching = acquireLock(file, { wait: '8s' })
    const lookAgain = watching.catch((error: unknown) => error)
    await sleep(3_000)
    process.kill(holder.pid, 'SIGCONT')
    await until(() => inspectLock(file).verdict === 'alive')
    process.kill(holder.pid, 'SIGSTOP') // and falls silent again: 3 s and 4 s are not 5 s
    expect(await lookAgain).toMatchObject(refused('silent'))
    process.kill(holder.pid, 'SIGCONT')
    await holder.ask('lock.renew()')
    expect(await holder.ask('[lock.held, lock.signal.aborted]')).toEqual([true, false])
    expect(await holder.ask('lock.release()')).toBe(true)
  })

  test('keeps it from a watcher who was itself suspended: it has not watched in that time', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    const watcher = await node()
    await take(holder, 'ttl: 600')
    process.kill(holder.pid, 'SIGSTOP')
    await until(() => inspectLock(file).verdict === 'silent')
    const watching = watcher.ask(`acquireLock('f', { wait: '30s' }).then((lock) => lock.recovered.owner)`)
    await sleep(3_000)
    process.kill(watcher.pid, 'SIGSTOP')
    await sleep(3_000)
    const continued = Date.now()
    process.kill(watcher.pid, 'SIGCONT')
    expect(await watching).toBe('holder')
    expect(Date.now() - continued).toBeGreaterThanOrEqual(SILENT - 100) // the first look is at once
    expect(Date.now() - continued).toBeLessThan(SILENT + MARGIN)
  })

  test('by a blocked event loop keeps it, too', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600')
    const blocked = holder.ask(`(() => { for (const end = Date.now() + 4500; Date.now() < end;); })()`)
    await expect(acquireLock(file, { wait: '2500ms' })).rejects.toMatchObject(refused('silent'))
    await blocked
    await until(() => inspectLock(file).verdict === 'alive')
    expect(await holder.ask('[lock.signal.aborted, await lock.release()]')).toEqual([false, true])
  })
})

describe.concurrent('rule 4: what is not a stamp of ours', () => {
  const foreign: Record<string, (path: string) => void> = {
    'a lock file with some text': (path) => writeFileSync(path, '# This file is automatically @generated by Cargo.\n[[package]]\n'),
    'a lock file with only a pid': (path) => writeFileSync(path, '4194300\n'),
    'the JSON of another program': (path) => writeFileSync(path, '{"pid":4194300,"lockfileVersion":3}\n'),
    'a stamp of another version': (path) => writeFileSync(path, '{"v":2,"ttlMs":1}\n'),
    'a stamp whose TTL is a text': (path) => writeFileSync(path, '{"v":1,"ttlMs":"1"}\n'),
    'a long file that begins like a stamp': (path) => writeFileSync(path, `{"v":1,"ttlMs":1}${' '.repeat(5000)}\n`),
    'a folder': (path) => mkdirSync(path),
    'a symbolic link to nothing': (path) => symlinkSync('nowhere', path),
    'a FIFO': (path) => execFileSync('mkfifo', [path]),
  }
  for (const [what, make] of Object.entries(foreign)) {
    test(`${what} is held, whatever its age, and left alone by a sweep`, async ({ folder }) => {
      const file = join(folder, 'f')
      make(`${file}.lock`)
      age(`${file}.lock`, 365 * 86_400)
      const before = execFileSync('ls', ['-lR', folder], { encoding: 'utf8' })
      await expect(acquireLock(file)).rejects.toMatchObject(refused('foreign'))
      await sweepLocks(folder)
      expect(inspectLock(file)).toMatchObject({ state: 'held', verdict: 'foreign' })
      expect(execFileSync('ls', ['-lR', folder], { encoding: 'utf8' })).toBe(before)
    })
  }

  test('is held however long one watches it', async ({ folder }) => {
    const waits = Object.entries(foreign).map(async ([what, make]) => {
      make(join(folder, `${what}.lock`))
      await expect(acquireLock(join(folder, what), { wait: SILENT + 1500 }), what).rejects.toMatchObject(refused('foreign'))
    })
    await Promise.all(waits)
    expect(readdirSync(folder)).toHaveLength(waits.length)
  })

  for (const [what, text] of [['an empty file', ''], ['a torn stamp', '{"v":1,"owner":"torn","ttl']] as const) {
    test(`${what} may be a lock that is being taken: free for who has watched it for five seconds`, async ({ folder }) => {
      const file = join(folder, 'f')
      writeFileSync(`${file}.lock`, text)
      await expect(acquireLock(file)).rejects.toMatchObject(refused('unstamped'))
      const started = Date.now()
      const lock = await acquireLock(file, { wait: '20s' })
      expect(Date.now() - started).toBeGreaterThanOrEqual(SILENT)
      expect(Date.now() - started).toBeLessThan(SILENT + MARGIN)
      expect(lock.recovered).toBeUndefined()
    })

    test(`${what} that is older than ten minutes is nobody's`, async ({ folder }) => {
      const file = join(folder, 'f')
      writeFileSync(`${file}.lock`, text)
      age(`${file}.lock`, 590)
      await expect(acquireLock(file)).rejects.toMatchObject(refused('unstamped'))
      age(`${file}.lock`, 601)
      expect((await acquireLock(file)).held).toBe(true)
    })
  }
})

describe.concurrent('a stamp that a shell wrote', () => {
  const shell = (folder: string, text: string) => works('sh', '-c', `cd "$1" && set -C && printf '%s' "$2" > f.lock`, 'sh', folder, text)

  test('is held for its TTL and a minute by the clock of the file system, and then taken', async ({ folder }) => {
    const file = join(folder, 'f')
    expect(shell(folder, '{"v":1,"owner":"me","ttlMs":600000}')).toBe(true)
    await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('out-of-sight'), holder: { owner: 'me' } })
    age(`${file}.lock`, 650)
    await expect(acquireLock(file)).rejects.toMatchObject({ ...refused('out-of-sight'), holder: { owner: 'me' } })
    age(`${file}.lock`, 661)
    expect((await acquireLock(file)).recovered).toEqual({ v: 1, owner: 'me', ttlMs: 600_000 })
  })

  test('cannot be written over a lock that is held', async ({ folder }) => {
    const lock = await acquireLock(join(folder, 'f'))
    expect(shell(folder, '{"v":1,"owner":"me","ttlMs":600000}')).toBe(false)
    expect(await lock.release()).toBe(true)
    expect(shell(folder, '{"v":1,"owner":"me","ttlMs":600000}')).toBe(true)
  })

  test('is released by rm, which a waiter notices', async ({ folder }) => {
    const file = join(folder, 'f')
    shell(folder, '{"v":1,"owner":"me","ttlMs":600000}')
    const waiting = acquireLock(file, { wait: '20s' })
    await sleep(300)
    execFileSync('rm', [`${file}.lock`])
    const removed = Date.now()
    expect((await waiting).recovered).toBeUndefined()
    expect(Date.now() - removed).toBeLessThan(MARGIN)
  })

  test('without a TTL ends by rm alone', async ({ folder }) => {
    const file = join(folder, 'f')
    shell(folder, '{"v":1,"owner":"me"}')
    age(`${file}.lock`, 10 * 365 * 86_400)
    const refusal = await acquireLock(file).catch((error: unknown) => error)
    expect(refusal).toMatchObject({ ...refused('out-of-sight'), retryAfterMs: undefined })
    expect(inspectLock(file).remainingMs).toBeUndefined()
    rmSync(`${file}.lock`)
    expect(await (await acquireLock(file)).release()).toBe(true)
  })
})

describe.concurrent('wall clocks that are hours apart', () => {
  const directions = [
    ['the holder is three hours ahead', '+3h', undefined],
    ['the holder is three hours behind', '-3h', undefined],
    ['the judge is three hours ahead', undefined, '+3h'],
    ['the judge is three hours behind', undefined, '-3h'],
  ] as const
  const wrapped = (offset: string | undefined) => (offset === undefined ? {} : { wrap: inFakeTime(offset) })

  for (const [which, ofHolder, ofJudge] of directions) {
    test(`take no live lock early and an expired one on time (${which})`, async ({ folder, node, skip }) => {
      skip(lacks.faketime !== '', lacks.faketime)
      const [holder, judge] = await Promise.all([node(wrapped(ofHolder)), node(wrapped(ofJudge))])
      const apart = (await judge.ask('Date.now()')) - (await holder.ask('Date.now()'))
      expect(Math.abs(apart)).toBeGreaterThan(2.9 * 3_600_000)
      await take(holder, 'ttl: 1500, renew: false')
      const stamp = stampOf(join(folder, 'f.lock'))
      await expect(judge.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('alive'))
      expect(await judge.ask(`acquireLock('f', { wait: '20s' }).then((lock) => lock.recovered.owner)`)).toBe('holder')
      const after = sinceBeginOf(stamp)
      expect(after).toBeGreaterThanOrEqual(1500 - GRANULARITY)
      expect(after).toBeLessThan(1500 + MARGIN)
    })

    test(`cost a renewing holder nothing (${which})`, async ({ node, skip }) => {
      skip(lacks.faketime !== '', lacks.faketime)
      const [holder, judge] = await Promise.all([node(wrapped(ofHolder)), node(wrapped(ofJudge))])
      await take(holder, 'ttl: 900')
      await expect(judge.ask(`acquireLock('f', { wait: '2500ms' })`)).rejects.toMatchObject({ code: 'ELOCKED' })
      expect(await holder.ask('[lock.signal.aborted, await lock.release()]')).toEqual([false, true])
    })
  }

  for (const offset of ['+3h', '-3h']) {
    test(`change nothing about a holder who is out of sight (the judge is at ${offset})`, async ({ folder, node, skip }) => {
      skip(lacks.faketime !== '', lacks.faketime)
      const path = join(folder, 'f.lock')
      writeFileSync(path, '{"v":1,"owner":"me","ttlMs":600000}')
      const judge = await node(wrapped(offset))
      await expect(judge.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('out-of-sight'))
      age(path, 650)
      await expect(judge.ask(`acquireLock('f')`)).rejects.toMatchObject(refused('out-of-sight'))
      age(path, 661)
      expect(await judge.ask(`acquireLock('f').then((lock) => lock.recovered.owner)`)).toBe('me')
    })
  }

  test('nor does a clock that is set forward and back while the lock is held', async ({ folder, node, skip }) => {
    skip(lacks.faketime !== '', lacks.faketime)
    const clock = join(folder, 'clock')
    writeFileSync(clock, '+0')
    // `faketime` sets FAKETIME, which would win over the file.
    const stepped = {
      wrap: [...inFakeTime('+0'), 'env', '-u', 'FAKETIME'],
      env: { FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' },
    }
    const [holder, judge] = await Promise.all([node(stepped), node(stepped)])
    await take(holder, 'ttl: 900')
    const waiting = judge.ask(`acquireLock('f', { wait: '5s' })`).catch((error: unknown) => error)
    for (const offset of ['+3h', '-3h', '+0', '+20d']) {
      writeFileSync(clock, offset)
      await sleep(1000)
      expect(Math.abs((await holder.ask('Date.now()')) - Date.now()) > 3_600_000).toBe(offset !== '+0')
      expect(await holder.ask('lock.signal.aborted')).toBe(false)
    }
    expect(await waiting).toMatchObject({ code: 'ELOCKED' })
    expect(await holder.ask('lock.release()')).toBe(true)
  })
})

describe.concurrent('renewal', () => {
  test('keeps a short lock for as long as its process lives', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600')
    const { renewedAt, acquiredAt } = stampOf(`${file}.lock`)
    await expect(acquireLock(file, { wait: '4s' })).rejects.toMatchObject({ code: 'ELOCKED', holder: { owner: 'holder', acquiredAt } })
    expect(Date.parse(stampOf(`${file}.lock`).renewedAt!) - Date.parse(renewedAt!)).toBeGreaterThan(3_000)
    expect(await holder.ask('lock.release()')).toBe(true)
  })

  for (const taker of ['lives on', 'has ended']) {
    test(`by the token, from another process, keeps a detached lock whose taker ${taker}; without it the lock ends`, async ({ folder, node }) => {
      const file = join(folder, 'f')
      const [holder, agent] = await Promise.all([node(), node()])
      await take(holder, 'detached: true, ttl: 1500')
      const token = await holder.ask('lock.token') as string
      if (taker === 'has ended') await holder.kill()
      for (let renewals = 0; renewals < 7; renewals++) {
        await sleep(600)
        expect(await agent.ask(`renewLock('f', ${JSON.stringify(token)})`)).toMatchObject({ owner: 'holder', ttlMs: 1500 })
        await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
      }
      const stamp = stampOf(`${file}.lock`)
      expect((await acquireLock(file, { wait: '20s' })).recovered?.owner).toBe('holder')
      const after = sinceBeginOf(stamp)
      expect(after).toBeGreaterThanOrEqual(1500 - GRANULARITY)
      expect(after).toBeLessThan(1500 + MARGIN)
      await expect(renewLock(file, token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
    })
  }

  test('by the token is left to the process that renews, and refused while that is behind', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 1500')
    const token = await holder.ask('lock.token') as string
    expect(await renewLock(file, token)).toMatchObject({ renews: true, bootMs: expect.any(Number) })
    process.kill(holder.pid, 'SIGSTOP')
    await sleep(1600)
    await expect(renewLock(file, token)).rejects.toMatchObject({ code: 'ELOCKED', verdict: 'silent', message: expect.stringContaining('has not renewed it in time') })
    process.kill(holder.pid, 'SIGCONT')
    await holder.kill()
    await expect(renewLock(file, token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  })

  test('by the token, in the process that took the lock, is a renewal like its own', async ({ folder }) => {
    const file = join(folder, 'f')
    const lock = await acquireLock(file, { detached: true, ttl: 1000 })
    for (let renewals = 0; renewals < 6; renewals++) {
      await sleep(450)
      await renewLock(file, lock.token)
      await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    }
    expect(lock.signal.aborted).toBe(false)
    expect(await lock.release()).toBe(true)
  })

  test('comes not too late while nobody took the lock', async ({ folder }) => {
    const file = join(folder, 'f')
    const lock = await acquireLock(file, { renew: false, ttl: 1500 })
    await sleep(1700)
    expect(lock.held).toBe(false)
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'ECOMPROMISED' }) as Error)
    await lock.renew()
    expect(lock.held).toBe(true)
    await expect(acquireLock(file)).rejects.toMatchObject(refused('alive'))
    expect(await lock.release()).toBe(true)
  })
})

describe.concurrent('a token', () => {
  test('releases from another process, once', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const taker = await node()
    const token = (await taker.ask(`acquireLock('f', { detached: true }).then(({ token }) => token)`)) as string
    await taker.kill()
    await releaseLock(file, token)
    expect(readdirSync(folder)).toEqual([])
    await expect(releaseLock(file, token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  })

  test('that is wrong neither renews nor releases, and the public id is wrong', async ({ folder }) => {
    const file = join(folder, 'f')
    const lock = await acquireLock(file, { owner: 'me', detached: true })
    const before = readFileSync(`${file}.lock`, 'utf8')
    for (const wrong of ['00000000-0000-4000-8000-000000000000', lock.id]) {
      await expect(renewLock(file, wrong)).rejects.toMatchObject({ code: 'ENOTACQUIRED', holder: { owner: 'me' } })
      await expect(releaseLock(file, wrong)).rejects.toMatchObject({ code: 'ENOTACQUIRED', holder: { owner: 'me' } })
    }
    expect(readFileSync(`${file}.lock`, 'utf8')).toBe(before)
    expect(before).not.toContain(lock.token)
    await releaseLock(file, lock.token)
  })

  test('with which another process released the lock: the holder is told, and leaves the successor alone', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 1500')
    await releaseLock(file, await holder.ask('lock.token') as string)
    const successor = await acquireLock(file)
    expect(await holder.ask('lock.release()')).toBe(false)
    expect(await holder.ask('[lock.held, lock.signal.aborted]')).toEqual([false, true])
    expect(stampOf(`${file}.lock`).id).toBe(successor.id)
  })

  test('does not bring a lock back whose process is dead', async ({ folder, node }) => {
    const holder = await node()
    await take(holder, '')
    const token = await holder.ask('lock.token') as string
    await renewLock(join(folder, 'f'), token)
    await holder.kill()
    await expect(renewLock(join(folder, 'f'), token)).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
  })
})

describe.concurrent('adoption by token', () => {
  test('is refused while the process lives, and granted when it is dead', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, '')
    const old = await holder.ask('lock.token') as string
    await expect(acquireLock(file, { token: old })).rejects.toMatchObject(refused('alive'))
    await holder.kill()
    const lock = await acquireLock(file, { token: old })
    expect(lock.token).not.toBe(old)
    expect(await lock.release()).toBe(true)
  })

  test('is granted when nobody is in sight, with a new token: the old one is worth nothing any more', async ({ folder }) => {
    const file = join(folder, 'f')
    const { token: old } = await acquireLock(file, { owner: 'session', detached: true })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    await expect(acquireLock(file, { token: 'not it' })).rejects.toMatchObject(refused('out-of-sight'))
    const lock = await acquireLock(file, { token: old, owner: 'session', detached: true })
    for (const useOld of [renewLock(file, old), releaseLock(file, old)]) await expect(useOld).rejects.toMatchObject({ code: 'ENOTACQUIRED' })
    await expect(acquireLock(file, { token: old })).rejects.toMatchObject(refused('out-of-sight'))
    await renewLock(file, lock.token)
    await releaseLock(file, lock.token)
    expect(readdirSync(folder)).toEqual([])
  })

  test('is granted when the holder is from another boot, long before its TTL is over', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, 'ttl: 600_000')
    const old = await holder.ask('lock.token') as string
    await holder.kill()
    forge(`${file}.lock`, { boot: '00000000-0000-4000-8000-000000000000' })
    await expect(acquireLock(file)).rejects.toMatchObject(refused('out-of-sight'))
    expect((await acquireLock(file, { token: old })).held).toBe(true)
  })

  test('is granted to one of many who have the token', async ({ folder, node }) => {
    const { token } = await acquireLock(join(folder, 'f'), { detached: true })
    const heirs = await Promise.all([node(), node(), node()])
    const answers = await Promise.allSettled(heirs.map((heir) => heir.ask(`Promise.any(Array.from({ length: 5 }, () => acquireLock('f', { token: ${JSON.stringify(token)} })))`)))
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })
})

describe.concurrent('the fence', () => {
  test('is never smaller than an earlier holder\'s, whoever holds', async ({ folder, node }) => {
    const workers = await Promise.all([node(), node(), node()])
    const work = `(async () => {
      for (let turn = 0; turn < 60; turn++) {
        const lock = await acquireLock('f', { wait: Infinity })
        fs.appendFileSync('fences', lock.fence + '\\n')
        await lock.release()
      }
    })()`
    await Promise.all(workers.map((worker) => worker.ask(work)))
    const fences = readFileSync(join(folder, 'fences'), 'utf8').trim().split('\n').map(Number)
    expect(fences).toHaveLength(180)
    expect(fences).toEqual(fences.toSorted((one, other) => one - other))
    expect(new Set(fences).size).toBeGreaterThan(1)
  })

  test('of a lock that was recovered is not smaller than the dead holder\'s, and a renewal leaves it', async ({ folder, node }) => {
    const file = join(folder, 'f')
    const holder = await node()
    await take(holder, '')
    const fence = await holder.ask('lock.fence') as number
    await holder.ask('lock.renew()')
    expect(stampOf(`${file}.lock`).fence).toBe(fence)
    await holder.kill()
    expect((await acquireLock(file)).fence).toBeGreaterThanOrEqual(fence)
  })
})

describe.concurrent('one thing has one lock', () => {
  test('parts of a file exclude the same part, and neither another part nor the file', async ({ folder }) => {
    const file = join(folder, 'queue.md')
    const head = await acquireLock(`${file}::head`)
    expect(head.lockFile).toBe(`${file}@head.lock`)
    await expect(acquireLock(`${file}::head`)).rejects.toMatchObject(refused('alive'))
    await acquireLock(`${file}::tail`)
    await acquireLock(file)
    expect(readdirSync(folder).sort()).toEqual(['queue.md.lock', 'queue.md@head.lock', 'queue.md@tail.lock'])
    await acquireLock(`${file}::the end @ 100%`)
    expect(readdirSync(folder)).toContain('queue.md@the%20end%20%40%20100%25.lock')
  })

  test('a free name is one in its whole workspace', async ({ folder, node }) => {
    mkdirSync(join(folder, '.lockpact'))
    mkdirSync(join(folder, 'deep/inside'), { recursive: true })
    mkdirSync(join(folder, 'other/.lockpact'), { recursive: true })
    const [above, inside, elsewhere] = await Promise.all([node(), node({ cwd: join(folder, 'deep/inside') }), node({ cwd: join(folder, 'other') })])
    expect(await above.ask(`acquireLock('name:deploy').then(({ lockFile }) => lockFile)`)).toBe(join(folder, '.lockpact/locks/deploy.lock'))
    await expect(inside.ask(`acquireLock('name:deploy')`)).rejects.toMatchObject(refused('alive'))
    expect(await elsewhere.ask(`acquireLock('name:deploy').then(({ file }) => file)`)).toBe('name:deploy')
    expect(await inside.ask(`acquireLock('name:other').then(({ held }) => held)`)).toBe(true)
  })

  test('a free name outside of any workspace is refused, with the way out', async ({ node }) => {
    const remote = await node({ env: { LOCKPACT_DIR: '' } })
    await expect(remote.ask(`acquireLock('name:deploy')`)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('LOCKPACT_DIR') as string })
  })

  test('all spellings of a path, and all symbolic links to it, lead to one lock', async ({ folder, node }) => {
    mkdirSync(join(folder, 'real/sub'), { recursive: true })
    writeFileSync(join(folder, 'real/there.md'), '')
    for (const [target, path] of [
      ['real', 'folder'],
      ['real/sub', 'sub'],
      ['real/there.md', 'link'],
      ['link', 'link to link'],
      [join(folder, 'real/there.md'), 'absolute'],
      ['../real/missing.md', 'real/dangling'],
      ['real/dangling', 'to dangling'],
    ] as const) symlinkSync(target, join(folder, path))
    const remote = await node()
    for (const [name, spellings] of [
      // `sub/..` is where `sub` leads to, not where it stands.
      ['there.md', ['real/there.md', 'real/../real/./there.md', 'real//there.md', 'folder/there.md', 'sub/../there.md', 'link', './link', 'link to link', 'absolute', 'real/sub/../there.md']],
      ['missing.md', ['real/missing.md', 'folder/missing.md', 'real/dangling', 'folder/dangling', 'to dangling', 'sub/../missing.md', 'sub/../dangling']],
    ] as const) {
      const lock = await acquireLock(join(folder, 'real', name))
      expect(lock.lockFile).toBe(join(folder, 'real', `${name}.lock`))
      for (const spelling of spellings) {
        for (const path of [spelling, `${folder}/${spelling}`]) {
          await expect(remote.ask(`acquireLock(${JSON.stringify(path)})`), path).rejects.toMatchObject({ ...refused('alive'), file: join(folder, 'real', name) })
        }
      }
      expect(await lock.release()).toBe(true)
    }
    expect(existsSync(join(folder, 'real/missing.md'))).toBe(false)
  })

  test('a link whose target comes and goes keeps its lock', async ({ folder }) => {
    symlinkSync('target', join(folder, 'link'))
    const lock = await acquireLock(join(folder, 'link'))
    writeFileSync(join(folder, 'target'), 'now it is there')
    await expect(acquireLock(join(folder, 'link'))).rejects.toMatchObject(refused('alive'))
    await expect(acquireLock(join(folder, 'target'))).rejects.toMatchObject(refused('alive'))
    expect(await lock.release()).toBe(true)
  })

  test('links in a circle are an error of whoever asks', async ({ folder }) => {
    symlinkSync('two', join(folder, 'one'))
    symlinkSync('one', join(folder, 'two'))
    await expect(acquireLock(join(folder, 'one'))).rejects.toMatchObject({ code: 'EINVAL' })
    expect(readdirSync(folder).sort()).toEqual(['one', 'two'])
  })
})
