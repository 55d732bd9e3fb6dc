/** Sizes and rates are decimal: 1 MB is 1,000,000 bytes. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length - 1)
  return power === 0 ? `${bytes} B` : `${(bytes / 1000 ** power).toFixed(1)} ${UNITS[power]}`
}

/** The bytes that `469.2MB` or `2 GB` stand for; `undefined` if it is not a size. */
export function parseBytes(text: string): number | undefined {
  const [, digits, unit = 'B'] = /^(\d+(?:\.\d+)?) ?([kKMGTP]?B)?$/.exec(text) ?? []
  if (digits === undefined) return undefined
  return Math.round(Number(digits) * 1000 ** UNITS.indexOf(unit.replace('K', 'k')))
}

export function formatRate(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`
}

/** `m:ss`, or `h:mm:ss`. */
export function formatClock(seconds: number): string {
  const whole = Math.ceil(seconds)
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const shown = parts[0] === 0 ? parts.slice(1) : parts
  return shown.map((part, index) => (index === 0 ? `${part}` : `${part}`.padStart(2, '0'))).join(':')
}

export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
}

/** Names come from others: on a terminal their control characters are shown as `?`, so that they can't steer it. */
export function printable(text: string, stream: { isTTY?: boolean }): string {
  return stream.isTTY ? text.replace(/[^\P{Cc}\n]/gu, '?') : text
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
