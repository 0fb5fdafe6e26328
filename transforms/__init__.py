"""WHAT HAPPENS TO DATA: Arrow in, Arrow out. Beam, Arrow and tf.Transform; never Keras, never a cloud client."""
