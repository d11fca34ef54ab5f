import { idOf, inspectLock, isLockError, locate } from '../core/index.js'
import { findWorkspaceIfAny, forget, recall, remember, type Remembered, sessionOf } from '../work/index.js'
import { type Io, type Option, text, usageError, type Values } from './command.js'

/* What a session remembers, as the commands use it: whatever gives a token remembers it, whatever ends that forgets it. */

/** The workspace, for what goes without one. */
export const workspaceIfAny = () => findWorkspaceIfAny(undefined)

/** Remembers a token. It was printed, too: that this fails is no reason to fail. */
export async function keep(root: string | undefined, entry: Remembered, io: Io): Promise<void> {
  try {
    await remember(root, entry)
  } catch (error) {
    io.say(`keep the token, the session could not remember it: ${(error as Error).message}`)
  }
}

/** Prints a token; one that nobody got to know would only be in the way. */
export async function printOr(undo: () => Promise<unknown>, root: string | undefined, token: string, print: () => void): Promise<void> {
  try {
    print()
  } catch (error) {
    await undo()
    await forget(root, token).catch(() => {})
    throw error
  }
}

/** Ends what a token was for, and forgets it, also when it was not the holder's any more. */
export async function ending<T>(root: string | undefined, token: string, end: () => Promise<T>): Promise<T> {
  const drop = () => forget(root, token).catch(() => {})
  try {
    const result = await end()
    await drop()
    return result
  } catch (error) {
    if (isLockError(error) && error.code === 'ENOTACQUIRED') await drop()
    throw error
  }
}

/** How to go on: with the token, where no session remembers it. */
export const withToken = (root: string | undefined) => (root !== undefined && sessionOf() !== undefined ? '' : ' --token "$TOKEN"')

/** What is meant and its token: as given, else the newest that the session has in hand. `by`: the command that prints the token. */
export function inHand(root: string | undefined, kind: Remembered['kind'], given: { name: string | undefined; token: string | undefined }, by: string): { name: string; token: string } {
  // `take` prints more lines behind it.
  const first = given.token?.split('\n')[0]
  const found = recall(root).findLast((each) => each.kind === kind && each.name === (given.name ?? each.name) && each.token === (first ?? each.token))
  const [name, token] = [given.name ?? found?.name, first ?? found?.token]
  if (name !== undefined && token !== undefined) return { name, token }
  const missing = token === undefined ? '--token is missing' : 'say which it is'
  throw usageError(`${missing}: ${by} printed it, and ${unknown(root, `no ${kind}${name === undefined ? '' : ` ${name}`} in hand`)}`)
}

/** The token of a lock and where it is, in the same way. */
export function lockInHand(root: string | undefined, resource: string, values: Values): { token: string; options: { lockFile?: string } } {
  const [token, given] = [text(values, 'token'), text(values, 'lock-file')]
  const place = locate(resource, given)
  const isMeant = ({ kind, name, ...each }: Remembered) =>
    kind === 'lock' && name === place.file && each.token === (token ?? each.token) && (given === undefined || each.lockFile === place.lockFile)
  const locks = recall(root).filter(isMeant)
  const isHeld = (each: Remembered) => inspectLock(resource, { lockFile: each.lockFile! }).stamp?.id === idOf(each.token)
  const found = locks.findLast(isHeld) ?? locks.at(-1)
  const known = token ?? found?.token
  if (known === undefined) throw usageError(`--token is missing: acquire printed it, and ${unknown(root, `no lock of ${place.file} in hand`)}`)
  const lockFile = given ?? (found && found.lockFile !== place.lockFile ? found.lockFile : undefined)
  return { token: known, options: { ...(lockFile !== undefined && { lockFile }) } }
}

function unknown(root: string | undefined, nothing: string): string {
  if (root === undefined) return 'without a workspace (lockpact init) no session remembers it'
  return sessionOf() === undefined ? 'there is no session (LOCKPACT_SESSION) that remembers it' : `the session has ${nothing}`
}

/** What `renew` and `release` take. */
export const lockOptions: Record<string, Option> = {
  token: { value: 'T', about: "what acquire printed (default: the session's)" },
  'lock-file': { value: 'PATH', about: 'another lock file than RESOURCE.lock' },
}
