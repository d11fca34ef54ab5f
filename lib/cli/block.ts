/* Parts of other people's files that are ours: between two marks, each alone on its line. The rest stays byte for byte. */

/** What a file becomes: its new text, or why it was left alone; neither: it is as it should be. */
export interface Edit {
  text?: string
  left?: string
}

export interface Marks {
  begin: string
  end: string
}

/** In Markdown. */
export const marksOf = (name: string): Marks => ({ begin: `<!-- lockpact:${name} -->`, end: `<!-- /lockpact:${name} -->` })

/** Puts `body` between the marks where they are, else at the end of the file. Its lines end as those around it do. */
export function putBlock(text: string | undefined, body: string, marks: Marks): Edit {
  return updateBlock(text ?? '', body, marks) ?? { text: append(text ?? '', `${marks.begin}\n${body}${marks.end}\n`) }
}

/** The same where the marks are there; else undefined. */
export function updateBlock(text: string, body: string, { begin, end }: Marks): Edit | undefined {
  const lines = text.split(/(?<=\n)/)
  const from = lines.findIndex((line) => bare(line) === begin)
  if (from < 0) return undefined
  const to = lines.findIndex((line, at) => at > from && bare(line) === end)
  if (to < 0) return { left: `it has ${begin}, but no ${end} behind it` }
  const inside = lines.slice(from + 1, to).join('')
  if (inside.replaceAll('\r\n', '\n') === body) return {}
  return { text: [...lines.slice(0, from + 1), asIn(lines[from]!, body), ...lines.slice(to)].join('') }
}

// Four spaces in front would be code.
function bare(line: string): string {
  return line.replace(/^\uFEFF? {0,3}/, '').trimEnd()
}

function append(text: string, block: string): string {
  const gap = text === '' ? '' : text.endsWith('\n') ? '\n' : '\n\n'
  return text + asIn(text, gap + block)
}

function asIn(text: string, added: string): string {
  return text.includes('\r\n') ? added.replaceAll('\n', '\r\n') : added
}
