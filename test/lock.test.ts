import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock } from 'lockpact'
import { expect, test } from 'vitest'
import { startNode, tempFolder } from './support.js'

test('a lock that is held refuses, and is free again after release', async () => {
  const file = join(tempFolder(), 'queue.md')
  const lock = await acquireLock(file, { owner: 'first' })
  await expect(acquireLock(file)).rejects.toMatchObject({ code: 'ELOCKED', holder: { owner: 'first' }, verdict: 'alive' })
  expect(await lock.release()).toBe(true)
  expect(existsSync(`${file}.lock`)).toBe(false)
  await (await acquireLock(file)).release()
})

test('a holder that was killed is recovered from at once, and its stamp is told', async () => {
  const folder = tempFolder()
  const child = startNode(`await acquireLock('queue.md', { owner: 'killed' }); say('held'); setInterval(() => {}, 1000)`, { cwd: folder })
  expect(await child.line()).toBe('held')
  child.process.kill('SIGKILL')
  await child.ended
  const lock = await acquireLock(join(folder, 'queue.md'))
  expect(lock.recovered?.owner).toBe('killed')
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
})
