import {
  ago,
  dirname,
  forPeople,
  fs,
  type Inspection,
  inspectLock,
  inspectLockFile,
  LOCK_FILE,
  lockFilesBelow,
  plain,
  quoted,
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
    const locks = found.filter(({ state }) => state !== 'free').map(row).sort((a, b) => rank(a) - rank(b))
    io.print({ locks, scope: scope.map((path) => (path.startsWith('name:') ? path : resolve(path))) }, table(locks))
    const missing = scope.filter((path) => !path.startsWith('name:') && !fs.existsSync(path))
    if (locks.length === 0) io.say(`no locks${missing.length === 0 ? '' : `; there is no ${missing.join(', ')} either`}`)
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

type Row = ReturnType<typeof row>

// What somebody may have to look at comes first.
const rank = ({ state, verdict }: Row) => (state === 'stale' ? 0 : verdict === 'alive' || verdict === 'out-of-sight' ? 2 : 1)

// What to do about a row; '' where there is nothing to do but to wait.
function next({ state, verdict, file, lockFile }: Row): string {
  if (verdict === 'unstamped') return 'free for who waits 6 s'
  if (state === 'stale') return `free for the next; or lockpact sweep ${quoted(shortest(dirname(lockFile)) || '.')}`
  if (verdict === 'silent') return 'hangs? free for who waits 6 s'
  if (verdict === 'foreign' || verdict === 'guarded') return `if left over: lockpact break ${quoted(shortest(file))} --reason "…"`
  return ''
}

function table(locks: Row[]): string {
  if (locks.length === 0) return ''
  const rows = locks.map((each) => [
    each.state,
    each.verdict ?? '',
    plain(shortest(each.lockFile)),
    plain(each.owner ?? '-'),
    ago(each.since),
    each.remainingMs === null ? '-' : forPeople(each.remainingMs),
    plain(each.reason ?? '-'),
    next(each),
  ])
  const head = ['STATE', 'VERDICT', 'LOCK FILE', 'OWNER', 'SINCE', 'LEFT', 'REASON', 'NEXT']
  const isQuiet = rows.every((cells) => cells.at(-1) === '')
  return columns([head, ...rows].map((cells) => (isQuiet ? cells.slice(0, -1) : cells))).join('\n')
}

// Seen from the working folder, where that is shorter.
function shortest(path: string): string {
  const from = relative(process.cwd(), path)
  return from.length < path.length ? from : path
}
