import type { Progress, Transfer } from '../src/index.js'
import { formatBytes, formatClock, formatRate } from './text.js'

export const PROGRESS_MODES = ['auto', 'tty', 'jsonl', 'none'] as const
export type ProgressMode = (typeof PROGRESS_MODES)[number]

/** Shows a transfer's progress on stderr until it ends, or throws its error. */
export async function showProgress(transfer: Transfer, mode: ProgressMode): Promise<void> {
  if (mode === 'none') return
  const show = await renderer(mode)
  try {
    for await (const progress of transfer) show.update(progress)
  } finally {
    show.end()
  }
}

interface Renderer {
  update(progress: Progress): void
  end(): void
}

async function renderer(mode: Exclude<ProgressMode, 'none'>): Promise<Renderer> {
  if (mode === 'jsonl') {
    return { update: (progress) => write(JSON.stringify(progress)), end: () => {} }
  }
  return mode === 'tty' || process.stderr.isTTY ? bar() : lines()
}

async function bar(): Promise<Renderer> {
  const { Presets, SingleBar } = await import('cli-progress')
  const bar = new SingleBar(
    { format: '{bar} {text}', stream: process.stderr, noTTYOutput: true, hideCursor: true, barsize: 24 },
    Presets.shades_classic,
  )
  bar.start(1, 0, { text: '' })
  return {
    update(progress) {
      bar.setTotal(Math.max(progress.total ?? progress.bytes + 1, 1))
      bar.update(progress.total === 0 ? 1 : progress.bytes, { text: describe(progress) })
    },
    end: () => bar.stop(),
  }
}

/** For logs: a line every few seconds, so that short transfers leave none. */
function lines(): Renderer {
  let shownMs = performance.now()
  return {
    update(progress) {
      if (performance.now() - shownMs < LINE_EVERY_MS) return
      shownMs = performance.now()
      write(describe(progress))
    },
    end: () => {},
  }
}

function describe({ bytes, total, files, totalFiles, bytesPerSecond, secondsLeft }: Progress): string {
  const size = total === undefined ? formatBytes(bytes) : `${formatBytes(bytes)} of ${formatBytes(total)}`
  const count = totalFiles === undefined ? `${files} files` : `${files}/${totalFiles} files`
  const left = secondsLeft === undefined ? '' : `, ${formatClock(secondsLeft)} left`
  return `${size}, ${formatRate(bytesPerSecond)}${left}, ${count}`
}

function write(line: string): void {
  process.stderr.write(`${line}\n`)
}

const LINE_EVERY_MS = 3000
