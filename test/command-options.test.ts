/* Options and statuses of the command, each as a user would meet it. */
import { spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, inspectLock } from 'lockpact'
import { expect, test } from 'vitest'
import { commandPath, isRoot, sleep, start, startNode, tempFolder } from './support.js'

function run(folder: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [commandPath, ...args], { cwd: folder, encoding: 'utf8' })
  return { status, stdout, stderr, json: () => JSON.parse(stdout) as Record<string, any> }
}

test('--lock-file is where acquire, renew, release and break look', () => {
  const folder = tempFolder()
  const there = ['--lock-file', 'locks/one.lock']
  const token = run(folder, 'acquire', 'queue.md', ...there).stdout.trim()
  expect(readdirSync(folder)).toEqual(['locks'])
  expect(readdirSync(join(folder, 'locks'))).toEqual(['one.lock'])
  expect(run(folder, 'acquire', 'queue.md', ...there).status).toBe(75)
  expect(run(folder, 'renew', 'queue.md', '--token', token, ...there).status).toBe(0)
  expect(run(folder, 'release', 'queue.md', '--token', token, ...there).status).toBe(0)
  expect(readdirSync(join(folder, 'locks'))).toEqual([])
  run(folder, 'acquire', 'queue.md', ...there)
  expect(run(folder, 'break', 'queue.md', '--reason', 'test', ...there, '--json').json()).toMatchObject({ broken: true })
  expect(readdirSync(join(folder, 'locks'))).toEqual([])
})

test('--ttl none lasts until it is released, --wait forever until it is free', async () => {
  const folder = tempFolder()
  const { json } = run(folder, 'acquire', 'queue.md', '--ttl', 'none', '--json')
  expect(json()['expiresAt']).toBeNull()
  expect(JSON.parse(readFileSync(join(folder, 'queue.md.lock'), 'utf8'))).not.toHaveProperty('ttlMs')
  const waiting = start([process.execPath, commandPath, 'acquire', 'queue.md', '--wait', 'forever'], { cwd: folder })
  expect(await Promise.race([waiting.ended, sleep(1000).then(() => 'waits')])).toBe('waits')
  expect(run(folder, 'release', 'queue.md', '--token', json()['token']).status).toBe(0)
  expect((await waiting.ended).code).toBe(0)
})

test('status shows first what somebody may have to look at, and what to do about it', async () => {
  const folder = tempFolder()
  await startNode(`await acquireLock('z.md', { owner: 'gone' }); process.kill(process.pid, 'SIGKILL')`, { cwd: folder }).ended
  run(folder, 'acquire', 'a.md', '--owner', 'hourly')
  writeFileSync(join(folder, 'yarn.lock'), '# yarn\n')
  const rows = run(folder, 'status').stdout.trim().split('\n')
  expect(rows[0]).toMatch(/^STATE +VERDICT +LOCK FILE +OWNER +SINCE +LEFT +REASON +NEXT$/)
  expect(rows[1]).toMatch(/^stale +dead +z\.md\.lock +gone .* free for the next; or lockpact sweep \.$/)
  expect(rows[2]).toMatch(/^held +foreign +yarn\.lock .* if left over: lockpact break yarn --reason "…"$/)
  expect(rows[3]).toMatch(/^held +out-of-sight +a\.md\.lock +hourly .* -$/)
})

test('a dead holder is named by acquire, and status says what to do', async () => {
  const folder = tempFolder()
  await startNode(`await acquireLock('queue.md', { owner: 'hourly' }); process.kill(process.pid, 'SIGKILL')`, { cwd: folder }).ended
  const status = run(folder, 'status')
  expect(status.status).toBe(0)
  expect(status.stdout).toMatch(/\nstale +dead /)
  expect(status.stdout).toMatch(/ free for the next; or lockpact sweep \.\n/)
  expect(run(folder, 'acquire', 'queue.md').stderr).toMatch(/recovered from "?hourly"? .*half done/)
})

test('a lock whose lease has ended is told as such', async () => {
  const folder = tempFolder()
  const file = join(folder, 'queue.md')
  const hung = startNode(`await acquireLock('queue.md', { ttl: 400 }); say('held'); process.kill(process.pid, 'SIGSTOP')`, { cwd: folder })
  expect(await hung.line()).toBe('held')
  await expect.poll(() => inspectLock(file).verdict, { timeout: 10_000 }).toBe('silent')
  await expect(acquireLock(file)).rejects.toThrow(/its lease ended 20/)
  hung.process.kill('SIGKILL')
})

test('status takes the path of a file, of its lock file or of a guard; a sweep that finds nothing says so', () => {
  const folder = tempFolder()
  run(folder, 'acquire', 'queue.md')
  writeFileSync(join(folder, 'queue.md.lock.guard'), '')
  const locksAt = (path: string) => run(folder, 'status', path, '--json').json()['locks'] as unknown
  for (const path of ['queue.md', 'queue.md.lock']) expect(locksAt(path), path).toMatchObject([{ file: join(folder, 'queue.md'), state: 'held' }])
  expect(locksAt('queue.md.lock.guard')).toMatchObject([{ lockFile: join(folder, 'queue.md.lock.guard'), verdict: 'unstamped' }])
  expect(run(tempFolder(), 'sweep')).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('no locks below') })
})

test('a folder that may not be written ends with 77', ({ skip }) => {
  skip(isRoot, 'root may write it')
  const folder = tempFolder()
  chmodSync(folder, 0o555)
  expect(run(folder, 'acquire', 'queue.md').status).toBe(77)
  chmodSync(folder, 0o755)
})
