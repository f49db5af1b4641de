/** @file What all image encoders have in common: hidden states after any layer, and one vector for the whole image. */
import { Module } from '../../nn/module.js';
import { type Tensor, tidy } from '../../torch/index.js';

export interface VisionModelConfig {
  /** Height and width of the images, in pixels. */
  imageSize: number;
  /** Width of the hidden states. */
  hiddenSize: number;
  layers: number;
}

/** pixelValues [batch, channels, imageSize, imageSize] → one vector for each image, [batch, dim] */
export abstract class VisionModel<C extends VisionModelConfig = VisionModelConfig> extends Module<
  [pixelValues: Tensor]
> {
  readonly config: C;

  constructor(config: C) {
    super();
    this.config = config;
  }

  /** Returns the hidden states [batch, n, hiddenSize] after the first `count` layers. */
  protected abstract runLayers(pixelValues: Tensor, count: number): Tensor;

  /** Returns the vectors [batch, dim] of the result of `hiddenStates(…, -1)`. */
  abstract pool(lastHiddenState: Tensor): Tensor;

  /** Width of `pool`'s result. */
  abstract get pooledDim(): number;

  /**
   * Returns the hidden states after a layer, [batch, n, hiddenSize], the class token first where there is one. Later layers
   * do not run.
   * @param index as in transformers' `hidden_states`: 0 before the first layer, -1 after the last. IP-Adapter Plus uses -2.
   */
  hiddenStates(pixelValues: Tensor, index: number): Tensor {
    const { layers, imageSize: size } = this.config;
    const count = index < 0 ? layers + 1 + index : index;
    if (!Number.isInteger(index) || count < 0 || count > layers)
      throw new RangeError(
        `Expected a whole number from ${-layers - 1} to ${layers} for index but received ${index}`,
      );
    const [, , height, width] = pixelValues.shape;
    if (height !== size || width !== size)
      throw new RangeError(
        `Expected ${size} × ${size} pixels for pixelValues but received ${height} × ${width}`,
      );
    const { dtype } = this.parameters()[0] as Tensor;
    return tidy(() => this.runLayers(pixelValues.to(dtype), count));
  }

  protected forward(pixelValues: Tensor): Tensor {
    return this.pool(this.hiddenStates(pixelValues, -1));
  }
}
