/*
 * Small file systems of a test's own: for full disks, and disks that become read-only.
 */
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished, type TestContext } from 'vitest'
import { has, isRoot, sleep } from './support.js'

/** A small ext4 of its own, unmounted after the test. */
export function smallDisk({ skip }: TestContext, options: string[] = []): string {
  skip(!isRoot || !has('mkfs.ext4') || !has('mount'), 'needs root, mkfs.ext4 and mount')
  const base = fs.mkdtempSync(join(tmpdir(), 'lockpact-'))
  const disk = join(base, 'disk')
  const image = join(base, 'image')
  fs.mkdirSync(disk)
  fs.writeFileSync(image, '')
  fs.truncateSync(image, 4 << 20)
  execFileSync('mkfs.ext4', ['-q', '-b', '1024', '-m', '0', '-O', '^has_journal', ...options, image])
  try {
    execFileSync('mount', ['-o', 'loop', image, disk], { stdio: 'ignore' })
  } catch {
    fs.rmSync(base, { recursive: true })
    skip('this root may not mount')
  }
  onTestFinished(async () => {
    for (let tries = 0; tries < 20; tries++) {
      try {
        execFileSync('umount', [disk], { stdio: 'ignore' })
        break
      } catch {
        await sleep(100) // a child that is ending
      }
      if (tries === 19) execFileSync('umount', ['-l', disk])
    }
    fs.rmSync(base, { recursive: true, force: true })
  })
  fs.rmSync(join(disk, 'lost+found'), { recursive: true })
  return disk
}

export const remount = (disk: string, how: 'ro' | 'rw') => execFileSync('mount', ['-o', `remount,${how}`, disk])

/** Takes every block; gives the file to remove again. */
export function fillBlocks(disk: string): string {
  const filler = join(disk, 'filler')
  const fd = fs.openSync(filler, 'w')
  for (const size of [65_536, 1024, 1]) {
    try {
      for (;;) fs.writeSync(fd, Buffer.alloc(size, 1))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
  fs.fsyncSync(fd)
  fs.closeSync(fd)
  return filler
}

/** Takes every inode; gives one of the files. */
export function fillInodes(disk: string): string {
  try {
    for (let n = 0; ; n++) fs.writeFileSync(join(disk, `filler-${n}`), '')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
  return join(disk, 'filler-0')
}
