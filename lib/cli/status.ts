import {
  forPeople,
  fs,
  type Inspection,
  inspectLock,
  inspectLockFile,
  LOCK_FILE,
  lockFilesBelow,
  plain,
  relative,
  resolve,
} from '../core/index.js'
import { columns, type Command } from './command.js'

export const command: Command = {
  usage: 'status [PATH…] [options]',
  about:
    'Who holds what, since when, until when, why. PATH is a folder (everything below it), a file, a part, a free name or a lock file; ' +
    'default: the working folder.',
  operands: [0, Infinity],
  options: {},
  examples: ['lockpact status memory', 'lockpact status memory/queue.md --json'],

  async run(paths, _values, io) {
    const scope = paths.length === 0 ? ['.'] : paths
    const found = (await Promise.all(scope.map(look))).flat()
    const locks = found.filter(({ state }) => state !== 'free').map(row)
    io.print({ locks, scope: scope.map((path) => (path.startsWith('name:') ? path : resolve(path))) }, table(locks))
    const missing = scope.filter((path) => !path.startsWith('name:') && !fs.existsSync(path))
    if (locks.length === 0) io.say(`no locks${missing.length === 0 ? '' : `; there is no ${missing.join(', ')} either`}`)
    if (locks.some(({ state }) => state === 'stale')) io.say('whoever wants a stale one gets it; lockpact sweep removes them')
    return 0
  },
}

async function look(path: string): Promise<Inspection[]> {
  if (path.startsWith('name:')) return [inspectLock(path)]
  if (LOCK_FILE.test(path)) return [inspectLockFile(resolve(path))]
  if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return (await lockFilesBelow(path)).map(inspectLockFile)
  return [inspectLock(path)]
}

function row({ file, lockFile, state, verdict, stamp, remainingMs }: Inspection) {
  const { owner = null, reason = null, acquiredAt: since = null, expiresAt = null } = stamp ?? {}
  return {
    file,
    lockFile,
    state,
    verdict,
    owner,
    reason,
    since,
    expiresAt,
    remainingMs: remainingMs ?? null,
    foreign: verdict === 'foreign',
  }
}

function table(locks: ReturnType<typeof row>[]): string {
  if (locks.length === 0) return ''
  const now = Date.now()
  const rows = locks.map(({ lockFile, state, verdict, owner, reason, since, remainingMs }) => [
    state,
    verdict ?? '',
    plain(shortest(lockFile)),
    plain(owner ?? '-'),
    since === null || Number.isNaN(Date.parse(since)) ? '-' : `${forPeople(Math.max(0, now - Date.parse(since)))} ago`,
    remainingMs === null ? '-' : forPeople(remainingMs),
    plain(reason ?? ''),
  ])
  return columns([['STATE', 'VERDICT', 'LOCK FILE', 'OWNER', 'SINCE', 'LEFT', 'REASON'], ...rows]).join('\n')
}

// Seen from the working folder, where that is shorter.
function shortest(path: string): string {
  const from = relative(process.cwd(), path)
  return from.length < path.length ? from : path
}
