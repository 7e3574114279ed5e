"""Datasets whose errors name the image that did not go through the pipeline."""

import cv2


class NamedErrors:
    """A mixin of mmseg's datasets: errors of transforms, which know no file, name the sample's image."""

    def prepare_data(self, index: int) -> dict | None:
        """Return a sample after the pipeline, as MMEngine's datasets do.

        Raises:
            ValueError: A transform cannot process the image; names its file and size. Or as the pipeline.
        """
        try:
            return super().prepare_data(index)
        except (cv2.error, ValueError, ZeroDivisionError) as error:
            sample = self.get_data_info(index)
            files = [str(sample[key]) for key in ('img_path', 'seg_map_path') if sample.get(key)]
            if any(file in str(error) for file in files):
                raise
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'{files[0]}: a transform of the pipeline cannot process this image ({reason}): an image that is very '
                'narrow has no pixels left when it is resized; crop, pad or remove it'
            ) from error
