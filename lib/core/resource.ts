import { LockError, systemCode } from './error.js'
import { GUARD_SUFFIX, MAX_GUARDS } from './protocol.js'
import { basename, dirname, fs, isAbsolute, join, parse, resolve, sep } from './system.js'
import { show } from './text.js'

/** What is locked, and by which file. */
export interface Place {
  /** The absolute path without symbolic links (with `::part`, if there is one), or the free name. */
  file: string
  lockFile: string
  /** The lock file was given, it does not follow from the file. */
  given?: boolean
}

/** What lock files, inner locks (of work that goes on under a lock) and their guards end in. */
export const LOCK_FILE = /\.lock(\.inner)*((\.guard)*)$/

const NAME = 'name:'
const PART = '::'
const MAX_NAME_BYTES = 255
const MAX_LINKS = 40

/**
 * Finds the lock file of a resource. Two spellings of one file, and symbolic links to it, lead to one lock file; neither has to
 * exist. Nothing is created.
 *
 * | resource | lock file |
 * | --- | --- |
 * | `memory/queue.md` | `memory/queue.md.lock` |
 * | `memory/queue.md::head`, a part | `memory/queue.md@head.lock` |
 * | `name:deploy`, a free name | `.lockpact/locks/deploy.lock` in the workspace |
 *
 * Throws `EINVAL`.
 */
export function locate(resource: string, lockFile?: string): Place {
  checkPath('resource', resource)
  if (lockFile !== undefined && checkPath('lockFile', lockFile).endsWith(GUARD_SUFFIX)) {
    throw new LockError('EINVAL', `lockFile must not end in ${GUARD_SUFFIX}, that is how guards are called: ${show(lockFile)}`)
  }
  const place =
    lockFile === undefined ? placeOf(resource) : { file: fileOf(resource), lockFile: canonical(lockFile), given: true }
  // Clearing up goes one deeper.
  checkLength(basename(place.lockFile) + GUARD_SUFFIX.repeat(MAX_GUARDS + 1))
  return place
}

// Before anything is created: a lock whose guard cannot be created could not be released.
function checkLength(name: string): void {
  const excess = Buffer.byteLength(name) - MAX_NAME_BYTES
  if (excess <= 0) return
  throw new LockError(
    'EINVAL',
    `the name is ${excess} bytes too long for a lock file and its guards: ${show(name)}; give another place (option lockFile)`,
  )
}

function placeOf(resource: string): Place {
  if (resource.startsWith(NAME)) {
    const file = fileOf(resource)
    return { file, lockFile: nameLock(workspace(), resource) }
  }
  const { path, part } = split(resource)
  const file = canonical(path)
  if (parse(file).base === '')
    throw new LockError('EINVAL', `${show(resource)} is a root folder: no place for a lock file beside it`)
  return part === undefined
    ? { file, lockFile: `${file}.lock` }
    : { file: file + PART + part, lockFile: `${file}@${encodePart(part)}.lock` }
}

function fileOf(resource: string): string {
  if (resource === NAME) throw new LockError('EINVAL', "a free name is missing after 'name:'")
  if (resource.startsWith(NAME)) return resource
  const { path, part } = split(resource)
  return canonical(path) + (part === undefined ? '' : PART + part)
}

function split(resource: string): { path: string; part?: string } {
  const at = resource.lastIndexOf(PART)
  if (at === 0) throw new LockError('EINVAL', `a file is missing before '::' in ${show(resource)}`)
  // The colons of a folder's name divide nothing.
  if (at < 0 || resource.indexOf(sep, at) >= 0 || resource.indexOf('/', at) >= 0) return { path: resource }
  const part = resource.slice(at + PART.length)
  if (part === '') throw new LockError('EINVAL', `a part is missing after '::' in ${show(resource)}`)
  return { path: resource.slice(0, at), part }
}

/** A text that can be a path. Throws `EINVAL`. */
export function checkPath(name: string, path: unknown): string {
  if (path === '') throw new LockError('EINVAL', `${name} must be a path, not an empty text`)
  if (typeof path !== 'string') throw new LockError('EINVAL', `${name} must be a path, not ${show(path)}`)
  if (path.includes('\0')) throw new LockError('EINVAL', `${name} must not contain a NUL byte: ${show(path)}`)
  return path
}

/** The lock file of a free name (`name:deploy`) in a workspace. Throws `EINVAL`. */
export function nameLock(root: string, name: string): string {
  return join(root, '.lockpact', 'locks', `${encodePart(name.slice(NAME.length))}.lock`)
}

// As a single name in a folder: no separator, no leading dot, no '@'.
function encodePart(part: string): string {
  try {
    return encodeURIComponent(part).replace(/^\./, '%2E').replaceAll('*', '%2A')
  } catch {
    throw new LockError('EINVAL', `${show(part)} is not well-formed text`)
  }
}

/** The nearest folder, from the working folder upwards, that has a `.lockpact` folder; `LOCKPACT_DIR` says otherwise. */
export function workspace(): string {
  const told = process.env['LOCKPACT_DIR']
  if (told) {
    if (fs.existsSync(join(told, '.lockpact'))) return resolve(told)
    throw new LockError('EINVAL', `LOCKPACT_DIR is ${show(told)}, where no .lockpact folder is: run lockpact init there, or set another`)
  }
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    if (fs.existsSync(join(folder, '.lockpact'))) return folder
    if (folder === dirname(folder)) {
      const advice = 'run lockpact init where the shared files are, or set LOCKPACT_DIR'
      throw new LockError('EINVAL', `no .lockpact folder here or above (${process.cwd()}): ${advice}`)
    }
  }
}

// realpath(3) for a path whose end need not exist: links are followed by hand, also those that dangle. The text is not
// normalized before, since `link/..` is not where the link stands.
function canonical(path: string, links = 0): string {
  const whole = isAbsolute(path) ? path : `${process.cwd()}${sep}${path}`
  const name = basename(whole)
  const folder = dirname(whole)
  if (name === '') return whole
  checkLength(name)
  const realFolder = real(folder) ?? canonical(folder, links)
  const here = join(realFolder, name)
  if (name === '.' || name === '..' || !fs.lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink()) return here
  if (links === MAX_LINKS) throw new LockError('EINVAL', `too many symbolic links: ${show(path)}`)
  const target = fs.readlinkSync(here)
  return canonical(isAbsolute(target) ? target : realFolder + sep + target, links + 1)
}

function real(folder: string): string | undefined {
  try {
    return fs.realpathSync.native(folder)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}
