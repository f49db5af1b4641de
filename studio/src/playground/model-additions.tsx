/** @file What is added to the model: ControlNets with their images, and LoRAs. */
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import { Fault, NumberField, PathField } from './fields.js';
import { type ControlState, emptyControl, type FormState, type LoraState } from './form.js';
import { ImageSlot } from './gallery-image.js';

interface Props {
  state: FormState;
  choices: PlaygroundChoices;
  errors: Readonly<Record<string, string>>;
  onChange: (change: Partial<FormState>) => void;
}

/** Whether something is wrong with a setting, or a part of it. */
function isWrong(errors: Readonly<Record<string, string>>, name: string): boolean {
  return Object.keys(errors).some((key) => key.startsWith(name));
}

export function ControlNets({
  state: { controls, guessMode },
  choices,
  errors,
  onChange,
  onError,
}: Props & { onError: (error: unknown) => void }) {
  const change = (i: number, part: Partial<ControlState>): void =>
    onChange({ controls: controls.with(i, { ...(controls[i] as ControlState), ...part }) });
  return (
    <details open={controls.length > 0 || isWrong(errors, 'control')}>
      <summary>ControlNet</summary>
      {controls.map((control, i) => (
        <fieldset key={i} class="adapter">
          <legend class="hidden">ControlNet {i + 1}</legend>
          <PathField
            title={`ControlNet ${i + 1}`}
            value={control.controlnet}
            choices={choices.controlnets}
            error={errors[`controlnet[${i}]`]}
            onChange={(controlnet) => change(i, { controlnet })}
            onRemove={() => onChange({ controls: controls.toSpliced(i, 1) })}
          />
          <ImageSlot
            label={`Image of ControlNet ${i + 1}`}
            image={control.image}
            onImage={(image) => {
              const { image: _, ...rest } = control;
              onChange({ controls: controls.with(i, image === undefined ? rest : { ...rest, image }) });
            }}
            onError={onError}
          />
          <Fault text={errors[`controlImage[${i}]`]} />
          <label class="slider">
            <span>Strength {control.scale.toFixed(2)}</span>
            <input
              type="range"
              min={0}
              max={2}
              step={0.05}
              value={control.scale}
              onInput={(event) => change(i, { scale: event.currentTarget.valueAsNumber })}
            />
          </label>
          <Fault text={errors[`controlnetScale[${i}]`]} />
          <div class="pair-of-fields">
            {(['Start', 'End'] as const).map((title, end) => (
              <NumberField
                key={title}
                title={title}
                value={control.range[end] as number}
                error={errors[`controlRange[${2 * i + end}]`]}
                step={0.05}
                onChange={(value) => change(i, { range: control.range.with(end, value) as [number, number] })}
              />
            ))}
          </div>
        </fieldset>
      ))}
      <Fault
        text={errors.controlnet ?? errors.controlImage ?? errors.controlnetScale ?? errors.controlRange}
      />
      {controls.length > 0 && (
        <label>
          <input
            type="checkbox"
            checked={guessMode}
            onChange={(event) => onChange({ guessMode: event.currentTarget.checked })}
          />{' '}
          Guess mode: they act on the prompt alone
        </label>
      )}
      {controls.length < 4 && (
        <button
          type="button"
          class="quiet"
          onClick={() => onChange({ controls: [...controls, emptyControl] })}
        >
          Add a ControlNet
        </button>
      )}
    </details>
  );
}

export function Loras({ state: { loras }, choices, errors, onChange }: Props) {
  const change = (i: number, part: Partial<LoraState>): void =>
    onChange({ loras: loras.with(i, { ...(loras[i] as LoraState), ...part }) });
  return (
    <details open={loras.length > 0 || isWrong(errors, 'loras')}>
      <summary>LoRA</summary>
      {loras.map((lora, i) => (
        <fieldset key={i} class="adapter">
          <legend class="hidden">LoRA {i + 1}</legend>
          <PathField
            title={`LoRA ${i + 1}`}
            value={lora.path}
            choices={choices.loras}
            error={errors[`loras[${i}].path`]}
            onChange={(path) => change(i, { path })}
            onRemove={() => onChange({ loras: loras.toSpliced(i, 1) })}
          />
          <NumberField
            title="Strength"
            value={lora.scale}
            error={errors[`loras[${i}].scale`]}
            step={0.05}
            onChange={(scale) => change(i, { scale })}
          />
        </fieldset>
      ))}
      <Fault text={errors.loras} />
      {loras.length < 16 && (
        <button
          type="button"
          class="quiet"
          onClick={() => onChange({ loras: [...loras, { path: '', scale: 1 }] })}
        >
          Add a LoRA
        </button>
      )}
    </details>
  );
}
