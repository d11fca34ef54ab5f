/*
 * Rows and columns, aligned.
 */

export interface Cell {
  text: string
  bad?: boolean
}
export type Row = [label: string, ...cells: Cell[]]

/** A count of something that must not be. */
export function damage(count: number): Cell {
  return { text: `${count}`, bad: count > 0 }
}

/** What is bad is red, where colours are wanted. */
export function align(rows: Row[], colour: boolean): string {
  const width = (texts: string[]) => Math.max(...texts.map((text) => text.length))
  const label = width(rows.map((row) => row[0]))
  const cell = width(rows.flatMap(([, ...cells]) => cells.map(({ text }) => text)))
  const paint = ({ text, bad }: Cell) => (colour && bad ? `\x1b[31m${text.padStart(cell)}\x1b[39m` : text.padStart(cell))
  return rows.map(([text, ...cells]) => [text.padEnd(label), ...cells.map(paint)].join('   ').trimEnd()).join('\n')
}
