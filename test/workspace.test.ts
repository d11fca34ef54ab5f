/*
 * The workspace: where it is, what happened in it, and what it does when the machine refuses.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, type TestContext, vi } from 'vitest'
import { completeSlot, declareWrites, gate, initWorkspace, listIntents, listSlots, readEvents, withdrawWrites } from '../dist/work.js'
import { logEvent } from '../lib/work/workspace.js'
import { fillBlocks, remount, smallDisk } from './disk.js'
import { asNobody, lacks, type Remote, type RemoteOptions, test as base } from './remote.js'
import { projectFolder, sleep, startNode, until } from './support.js'

const workUrl = pathToFileURL(join(projectFolder, 'dist/work.js')).href

const test = base.extend<{ dir: string; job(options?: RemoteOptions): Promise<Remote> }>({
  dir: async ({ folder }, use) => use(initWorkspace(folder).dir),
  job: async ({ node, dir }, use) => use((options) => node({ dist: workUrl, cwd: dir, ...options })),
})

const eventsFile = (dir: string, number?: number) => join(dir, `.lockpact/events${number === undefined ? '' : `.${number}`}.jsonl`)
const failure = (promise: Promise<unknown>): Promise<any> => promise.then((value) => expect.unreachable(`it succeeded: ${JSON.stringify(value)}`), (error) => error)

// ---- where it is ----

test('it is made once, and can be made again; a person’s files in it stay', ({ folder }) => {
  const inner = join(folder, 'not/yet')
  expect(initWorkspace(inner)).toEqual({ dir: inner, created: true })
  fs.writeFileSync(join(inner, '.lockpact/.gitignore'), 'mine')
  expect(initWorkspace(inner)).toEqual({ dir: inner, created: false })
  expect(fs.readFileSync(join(inner, '.lockpact/.gitignore'), 'utf8')).toBe('mine')
  fs.symlinkSync(inner, join(folder, 'link'))
  expect(initWorkspace(join(folder, 'link')).dir).toBe(inner)
})

test('where there is none, the error names lockpact init, and nothing is created', async ({ folder, node }) => {
  const lost = await node({ dist: workUrl })
  const words = { name: 'LockError', code: 'EINVAL', message: expect.stringContaining('lockpact init') }
  for (const call of [`gate('k')`, `declareWrites({ task: 't', writes: ['x'] })`, `listSlots()`, `listIntents()`, `readEvents()`, `completeSlot('k', 'token')`, `renewSlot('k', 'token')`, `withdrawWrites('t', 'token')`]) {
    await expect(lost.ask(call), call).rejects.toMatchObject(words)
  }
  fs.writeFileSync(join(folder, '.lockpact'), 'a file')
  await expect(lost.ask(`gate('k')`)).rejects.toMatchObject(words)
  await expect(gate('k', { dir: folder })).rejects.toMatchObject(words)
  expect(fs.readdirSync(folder)).toEqual(['.lockpact'])
})

test('it is the nearest above the working folder; LOCKPACT_DIR says otherwise, and dir above all', async ({ folder, dir, node }) => {
  fs.mkdirSync(join(dir, 'deep/er'), { recursive: true })
  const other = initWorkspace(join(folder, 'other')).dir
  const third = initWorkspace(join(folder, 'third')).dir
  const below = await node({ dist: workUrl, cwd: join(dir, 'deep/er') })
  const told = await node({ dist: workUrl, cwd: join(dir, 'deep/er'), env: { LOCKPACT_DIR: other } })
  await below.ask(`gate('below')`)
  await told.ask(`gate('told')`)
  await told.ask(`gate('dir', { dir: ${JSON.stringify(third)} })`)
  expect([dir, other, third].map((each) => listSlots({ dir: each }).map(({ key }) => key))).toEqual([['below'], ['told'], ['dir']])
  // Paths are the working folder's, also then.
  expect((await below.ask(`declareWrites({ task: 't', writes: ['a.md', '../b.md'] })`)).writes).toEqual(['deep/b.md', 'deep/er/a.md'])
  await expect(told.ask(`declareWrites({ task: 't', writes: ['a.md'] })`)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('outside of the workspace') })
  const wrong = await node({ dist: workUrl, cwd: dir, env: { LOCKPACT_DIR: join(folder, 'nowhere') } })
  await expect(wrong.ask(`gate('k')`)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('lockpact init') })
})

test('a wrong folder is refused with a code', () => {
  for (const dir of [undefined, null, '', 1, {}, 'a\0b']) expect(() => initWorkspace(dir as never)).toThrow(expect.objectContaining({ name: 'LockError', code: 'EINVAL' }))
  for (const dir of [null, '', 1, {}, 'a\0b', '/nowhere']) expect(() => readEvents(dir as never)).toThrow(expect.objectContaining({ name: 'LockError', code: 'EINVAL' }))
  expect(() => initWorkspace('/dev/null/x')).toThrow(expect.objectContaining({ name: 'LockError', code: 'ENOTDIR' }))
  expect(() => initWorkspace('x'.repeat(5_000))).toThrow(expect.objectContaining({ name: 'LockError', code: 'ENAMETOOLONG' }))
})

// ---- events ----

test('one line for each skip, refusal, conflict, queueing, warning, recovery, loss and long hold: who, what, against whom, why', async ({ dir, job }) => {
  const other = await job()
  const { token } = await other.ask(`gate('k', { owner: 'first', pid: process.pid })`)
  await gate('k', { owner: 'second', dir })
  await other.kill()
  const third = await gate('k', { owner: 'third', cooldown: '15m', dir })
  await failure(completeSlot('k', token, { dir }))
  if (!third.go) throw new Error('it was to go')
  const writes = ['queue.md']
  const first = await declareWrites({ task: 'a', writes, dir })
  const { signal } = await declareWrites({ task: 'short', writes: ['short.md'], ttl: 200, dir })
  await failure(declareWrites({ task: 'b', writes, dir }))
  await failure(declareWrites({ task: 'c', writes, policy: 'queue', wait: 0, dir }))
  await declareWrites({ task: 'd', writes, policy: 'warn', dir })
  await until(() => signal.aborted)
  await sleep(1_000)
  await third.complete()
  await gate('k', { owner: 'fourth', cooldown: '15m', dir })
  await first.release()
  const events = readEvents(dir)
  expect(events.map(({ type, what, by, against, why }) => [type, what, by ?? null, against ?? null, why])).toEqual([
    ['skipped', 'slot:k', 'second', 'first', 'running'],
    ['recovered', 'slot:k', 'third', 'first', 'dead'],
    ['refused', 'slot:k', null, 'third', 'not the holder'],
    ['conflict', 'queue.md', 'b', 'a', 'declared'],
    ['queued', 'queue.md', 'c', 'a', 'declared'],
    ['conflict', 'queue.md', 'c', 'a', 'waited in vain'],
    ['warned', 'queue.md', 'd', 'a', 'declared'],
    ['lost', 'short.md', 'short', null, 'expired'],
    ['held', 'slot:k', 'third', null, 'done'],
    ['skipped', 'slot:k', 'fourth', 'third', 'cooldown'],
    ['held', 'queue.md', 'a', null, 'declared'],
  ])
  for (const { at, pid, type, ms } of events) {
    expect(new Date(at).toISOString()).toBe(at)
    expect(pid).toBe(process.pid)
    if (type === 'held') expect(ms).toBeGreaterThan(1_000)
  }
})

test('a line that was torn does not spoil the next; what is no event is left out', ({ dir }) => {
  logEvent(dir, { type: 'skipped', what: 'slot:1' })
  for (const torn of ['{"at":"2026-11-20T09:00:00.000Z","type":"ski', '\u0000\u0000', '{"at":1,"type":"skipped","what":"x"}', 'null', '[]', '{}', '"x"']) {
    fs.appendFileSync(eventsFile(dir), torn)
    logEvent(dir, { type: 'skipped', what: `slot:after ${torn.length}` })
  }
  fs.appendFileSync(eventsFile(dir), '{"at":"2026')
  expect(readEvents(dir).map(({ what }) => what)).toEqual(['slot:1', 'slot:after 44', 'slot:after 2', 'slot:after 36', 'slot:after 4', 'slot:after 2', 'slot:after 2', 'slot:after 3'])
})

test('two copies of the package write and rotate at once, and are killed: no line is torn, and every one that a writer knows of is there', { timeout: 90_000 }, async ({ dir }) => {
  const other = join(dir, 'copy')
  fs.cpSync(join(projectFolder, 'dist'), other, { recursive: true })
  fs.writeFileSync(join(other, '../package.json'), '{"type":"module"}')
  // Nearly full, so that somebody rotates right away.
  fs.writeFileSync(eventsFile(dir), `${JSON.stringify({ at: '2026-11-20T09:00:00.000Z', type: 'held', what: 'x'.repeat(200) })}\n`.repeat(4_200))
  const known = (await Promise.all([join(projectFolder, 'dist'), other].flatMap((dist) => ['a', 'b'].map(async (name) => {
    const script = `import { gate } from ${JSON.stringify(join(dist, 'work.js'))}
const key = ${JSON.stringify(`${dist} ${name}`)}
await gate(key, { dir: ${JSON.stringify(dir)} })
for (let n = 0; ; n++) { await gate(key, { dir: ${JSON.stringify(dir)}, owner: String(n) }); process.stdout.write(n + '\\n') }`
    const child = startNode(script)
    for (let line = 0; line < 400; line = Number(await child.line())) continue
    child.process.kill('SIGKILL')
    await child.ended
    return { key: `slot:${dist} ${name}`, count: Number(child.out().trim().split('\n').filter((line) => /^\d+$/.test(line)).at(-1)) + 1 }
  })))).flat()
  const events = readEvents(dir)
  for (const { key, count } of known) {
    const seen = events.filter(({ what }) => what === key).map(({ by }) => Number(by))
    // The last ones may have been written, and not told of any more.
    expect(seen.slice(0, count)).toEqual(Array.from({ length: count }, (_, n) => n))
  }
  expect(fs.existsSync(join(dir, '.lockpact/events.1.jsonl'))).toBe(true)
  // A killed writer may leave a part of one line.
  const lines = ['events.1.jsonl', 'events.jsonl'].flatMap((name) => fs.readFileSync(join(dir, '.lockpact', name), 'utf8').split('\n').filter(Boolean))
  expect(lines.length - events.length).toBeLessThanOrEqual(4)
})

test('what is rotated away while it is read is read once', ({ dir }) => {
  const numbers = () => readEvents(dir).map(({ what }) => what)
  fs.writeFileSync(eventsFile(dir, 1), `${JSON.stringify({ at: '2026-11-20T09:00:00.000Z', type: 'held', what: '0' })}\n`)
  for (const what of ['1', '2']) logEvent(dir, { type: 'held', what })
  const rotate = () => {
    fs.renameSync(eventsFile(dir, 1), eventsFile(dir, 2))
    fs.renameSync(eventsFile(dir), eventsFile(dir, 1))
  }
  const opened = vi.spyOn(process.getBuiltinModule('node:fs'), 'openSync').mockImplementation((path, ...more) => {
    if (path === eventsFile(dir, 1) && fs.existsSync(eventsFile(dir))) rotate()
    return fs.openSync(path, ...more)
  })
  expect(numbers()).toEqual(['0', '1', '2'])
  opened.mockRestore()
  expect(fs.existsSync(eventsFile(dir))).toBe(false)
  expect(numbers()).toEqual(['0', '1', '2'])
})

test('there are no events where there is no file', ({ dir }) => {
  expect(readEvents(dir)).toEqual([])
})

test('many processes append while it is rotated: it stays bounded, no line is torn, and nothing is missing but what was rotated away', { timeout: 90_000 }, async ({ dir, job }) => {
  const [WRITERS, EACH] = [4, 4_500]
  await gate('k', { owner: 'holder', dir })
  const jobs = await Promise.all(Array.from({ length: WRITERS }, () => job()))
  // While they write, somebody reads.
  const reader = await job()
  const reads = reader.ask(`(async () => {
    let last = [], reads = 0, missed = 0
    while (!fs.existsSync('done')) {
      const events = readEvents()
      // What was there before and is newer than the oldest that is there now must still be there.
      const now = new Set(events.map(({ by, pid }) => pid + ' ' + by))
      const from = last.findIndex((each) => now.has(each))
      if (from >= 0) missed += last.slice(from).filter((each) => !now.has(each)).length
      last = [...now]
      reads++
      await sleep(1)
    }
    return { reads, missed }
  })()`)
  await Promise.all(jobs.map((each) => each.ask(`(async () => { for (let n = 0; n < ${EACH}; n++) await gate('k', { owner: 'w'.repeat(90) + n }) })()`)))
  fs.writeFileSync(join(dir, 'done'), '')
  const { reads: count, missed } = await reads

  const files = [1, 2].map((number) => eventsFile(dir, number))
  expect(files.every((file) => fs.existsSync(file))).toBe(true)
  expect(fs.existsSync(eventsFile(dir, 3))).toBe(false)
  for (const file of [eventsFile(dir), ...files]) expect(fs.statSync(file).size).toBeLessThan(1_100_000)
  const lines = [...files.reverse(), eventsFile(dir)].flatMap((file) => fs.readFileSync(file, 'utf8').split('\n').filter(Boolean))
  const events = readEvents(dir)
  expect(events).toHaveLength(lines.length)
  for (const { pid } of jobs) {
    const numbers = events.filter((event) => event.pid === pid).map(({ by }) => Number(by!.slice(90)))
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, n) => EACH - numbers.length + n))
  }
  console.log(`events: ${WRITERS * EACH} written, ${events.length} kept, read ${count} times meanwhile, ${missed} missed`)
  expect(events.length).toBeLessThan(WRITERS * EACH)
  expect(missed).toBe(0)
  expect(fs.readdirSync(join(dir, '.lockpact')).filter((name) => name.includes('.lock'))).toEqual([])
})

// ---- the machine refuses ----

const isTyped = (code: string) => ({ name: 'LockError', code, cause: expect.objectContaining({ code }) })

test('on a full disk nothing is granted and nothing lost, and with space it goes on', async ({ skip }) => {
  const disk = smallDisk({ skip } as TestContext)
  const { dir } = initWorkspace(disk)
  const run = await gate('k', { owner: 'holder', dir })
  if (!run.go) throw new Error('it was to go')
  const intent = await declareWrites({ task: 'holder', writes: ['queue.md'], dir })
  const documents = ['slots', 'intents'].map((name) => join(dir, `.lockpact/${name}.json`))
  const before = documents.map((file) => fs.readFileSync(file, 'utf8'))
  const filler = fillBlocks(disk)
  // Who is refused needs no space to be told.
  expect(await gate('k', { dir })).toMatchObject({ go: false, by: 'holder' })
  for (const call of [() => gate('other', { dir }), () => run.complete('note'), () => run.renew(), () => run.bind(process.pid), () => intent.renew(), () => intent.release(), () => declareWrites({ task: 'other', writes: ['other.md'], dir }), () => declareWrites({ task: 'other', writes: ['queue.md'], policy: 'queue', dir })]) {
    expect(await failure(call()), String(call)).toMatchObject(isTyped('ENOSPC'))
  }
  expect(documents.map((file) => fs.readFileSync(file, 'utf8'))).toEqual(before)
  // A damaged one stays where it is, when there is no room to move it to.
  const damaged = '{"v":1,"rev":1,"slots":'
  fs.writeFileSync(join(disk, 'aside'), '')
  fs.rmSync(filler)
  fs.writeFileSync(documents[0]!, damaged.padEnd(9_000, ' '))
  const filled = fillBlocks(disk)
  expect(await failure(gate('k', { dir }))).toMatchObject({ name: 'LockError', code: 'ENOSPC' })
  expect(fs.readFileSync(documents[0]!, 'utf8')).toBe(damaged.padEnd(9_000, ' '))
  expect(fs.readdirSync(join(dir, '.lockpact')).filter((name) => name.includes('corrupt') || name.endsWith('.tmp'))).toEqual([])
  fs.rmSync(filled)
  fs.writeFileSync(documents[0]!, before[0]!)
  await run.complete('note')
  expect(await intent.release()).toBe(true)
  expect(listSlots({ dir })).toMatchObject([{ key: 'k', state: 'done', last: { note: 'note' } }])
  expect(listIntents({ dir })).toEqual([])
})

test('on a read-only disk nothing is granted, what is there can be read, and afterwards it goes on', async ({ skip }) => {
  const disk = smallDisk({ skip } as TestContext)
  const { dir } = initWorkspace(disk)
  const run = await gate('k', { owner: 'holder', dir })
  if (!run.go) throw new Error('it was to go')
  const { token } = await declareWrites({ task: 'holder', writes: ['queue.md'], dir })
  remount(disk, 'ro')
  expect(await gate('k', { dir })).toMatchObject({ go: false, by: 'holder' })
  expect(listIntents({ dir })).toMatchObject([{ task: 'holder' }])
  for (const call of [() => gate('other', { dir }), () => run.complete(), () => declareWrites({ task: 'other', writes: ['other.md'], dir }), () => withdrawWrites('holder', token, { dir })]) {
    expect(await failure(call()), String(call)).toMatchObject(isTyped('EROFS'))
  }
  remount(disk, 'rw')
  await run.complete()
  await withdrawWrites('holder', token, { dir })
  expect(listSlots({ dir })).toMatchObject([{ state: 'done' }])
})

test('in a workspace that one may only read, the error says so; in one that one may not see, too', async ({ folder, dir, node, skip }) => {
  skip(lacks.nobody !== '', lacks.nobody)
  await gate('k', { owner: 'holder', dir })
  fs.chmodSync(folder, 0o755)
  const nobody = await node({ dist: workUrl, cwd: '/', wrap: asNobody })
  const at = `{ dir: ${JSON.stringify(dir)} }`
  expect(await nobody.ask(`gate('k', ${at})`)).toMatchObject({ go: false, by: 'holder' })
  for (const call of [`gate('other', ${at})`, `declareWrites({ task: 't', writes: ['x'], ...${at} })`]) await expect(nobody.ask(call), call).rejects.toMatchObject({ name: 'LockError', code: 'EACCES', message: expect.stringContaining('not permitted') })
  fs.chmodSync(join(dir, '.lockpact'), 0o700)
  for (const call of [`gate('k', ${at})`, `listSlots(${at})`, `listIntents(${at})`, `declareWrites({ task: 't', writes: ['x'], ...${at} })`]) await expect(nobody.ask(call), call).rejects.toMatchObject({ name: 'LockError', code: 'EACCES' })
  fs.writeFileSync(eventsFile(dir), '')
  fs.chmodSync(eventsFile(dir), 0o600)
  fs.chmodSync(join(dir, '.lockpact'), 0o755)
  await expect(nobody.ask(`readEvents(${JSON.stringify(dir)})`)).rejects.toMatchObject({ name: 'LockError', code: 'EACCES' })
  fs.mkdirSync(join(dir, 'secret'), { mode: 0o700 })
  fs.chmodSync(join(dir, '.lockpact'), 0o777)
  await expect(nobody.ask(`declareWrites({ task: 't', writes: ['secret/x'], ...${at} })`)).rejects.toMatchObject({ name: 'LockError', code: 'EACCES' })
})

test('a document or a folder in the place of another kind is refused with a code', async ({ dir }) => {
  fs.mkdirSync(join(dir, '.lockpact/slots.json'))
  for (const call of [() => gate('k', { dir }), () => completeSlot('k', 'token', { dir }), async () => listSlots({ dir })]) expect(await failure(call()), String(call)).toMatchObject({ name: 'LockError', code: expect.stringMatching(/^(EISDIR|EINVAL)$/) })
  fs.mkdirSync(eventsFile(dir))
  // Events are told to nobody then; the answer stands.
  expect(await failure(declareWrites({ task: 't', writes: ['..'], dir }))).toMatchObject({ code: 'EINVAL' })
  await declareWrites({ task: 'a', writes: ['x'], dir })
  expect(await failure(declareWrites({ task: 'b', writes: ['x'], dir }))).toMatchObject({ code: 'ELOCKED' })
})
