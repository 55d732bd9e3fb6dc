import { CommandHelp, Help as OclifHelp } from '@oclif/core/help'
import type { Topic } from '@oclif/core/interfaces'
import { EXIT_CODES } from './exit-codes.js'

/** oclif's help, with the examples first and the exit codes last. */
export class Help extends OclifHelp {
  protected override CommandHelpClass = ExamplesFirst

  /** None: what has commands below it is a command itself, and listed as one. */
  protected override get sortedTopics(): Topic[] {
    return []
  }

  protected override async showRootHelp(): Promise<void> {
    await super.showRootHelp()
    this.log(this.section('EXIT CODES', exitCodes()))
  }
}

class ExamplesFirst extends CommandHelp {
  /** Without the summary: the help opens with it. */
  protected override description(): string | undefined {
    return this.command.description && this.wrap(this.command.description)
  }

  protected override sections(): ReturnType<CommandHelp['sections']> {
    const sections = super.sections()
    const isExamples = ({ header }: { header: string }): boolean => header === 'EXAMPLES'
    return [
      ...sections.filter(isExamples),
      ...sections.filter((section) => !isExamples(section)),
      { header: 'EXIT CODES', generate: exitCodes },
    ]
  }
}

function exitCodes(): string {
  return Object.values(EXIT_CODES)
    .map(([code, meaning]) => `${`${code}`.padStart(3)}  ${meaning}`)
    .join('\n')
}
