import { quoted, show } from '../core/index.js'
import type { Skip } from '../work/index.js'

/** Why a gate does not let somebody through: who, since when, until when, and the next command to type. */
export function skipWords({ key, slot, reason, by, at, until, note }: Skip): string {
  const who = by === null ? 'somebody' : show(by)
  const what = reason === 'running' ? `${who} is at it since ${at}` : `${who} has done it at ${at}`
  const said = note === null ? '' : `: ${show(note)}`
  const open = until === null ? `for ${show(slot)} it is over` : `${reason === 'running' ? 'until' : 'open again at'} ${until}`
  return `skip ${quoted(key)}: ${what}${said}; ${open}. Look: lockpact slots`
}
